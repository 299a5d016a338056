"""Read the four stages out of any text, or say what is wrong with it and where.

Strict on purpose: a text either has the written form of ``reasoning.stages`` (white space around
and between tags is free) or it has a fault with a kind and a place. Nothing is guessed, nothing
is repaired, and no text raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from reasoning.stages import SEPARATOR, STAGES, TAGS, FourStages, Stage

_TAG = re.compile("|".join(re.escape(tag) for tag in TAGS))
_STAGE_OF_TAG: dict[str, tuple[Stage, bool]] = {
    **{stage.open_tag: (stage, True) for stage in STAGES},
    **{stage.close_tag: (stage, False) for stage in STAGES},
}


class FaultKind(StrEnum):
    """What is wrong with a text. The values are written to Parquet and never change."""

    EMPTY = "empty"
    """Nothing but white space."""
    MISSING = "missing"
    """A stage's opening tag is nowhere, or not where its stage was due."""
    UNCLOSED = "unclosed"
    """A stage was opened and never closed: the text ended, or the next stage began."""
    UNOPENED = "unopened"
    """A closing tag whose stage is not open."""
    DOUBLED = "doubled"
    """A tag that was there before."""
    OUT_OF_ORDER = "out_of_order"
    """A stage that stands before one that should precede it."""
    NESTED = "nested"
    """A stage that begins inside another which is closed later."""
    TEXT_OUTSIDE = "text_outside"
    """Words before, between or after the stages."""
    EMPTY_STAGE = "empty_stage"
    """A stage without words."""
    ABORTED = "aborted"
    """The engine gave up on this candidate; its text was not read."""


@dataclass(frozen=True, kw_only=True)
class ParseFault:
    """The first fault of a text. ``position`` counts characters from the start of the text."""

    kind: FaultKind
    stage: Stage | None
    position: int
    message: str

    @property
    def code(self) -> str:
        """A short name to count faults by, such as ``caption.unclosed``."""
        return f"{self.stage.lower()}.{self.kind}" if self.stage else str(self.kind)

    @classmethod
    def aborted(cls, stage: Stage | None) -> ParseFault:
        """The fault of a candidate that the engine gave up on."""
        return cls(kind=FaultKind.ABORTED, stage=stage, position=0, message="the engine gave up on this candidate")


@dataclass(frozen=True)
class _Tag:
    stage: Stage
    is_opening: bool
    start: int
    end: int


class _Fault(Exception):  # noqa: N818  a way out of the nested rules below, never leaves this module
    def __init__(self, kind: FaultKind, stage: Stage | None, position: int, message: str) -> None:
        super().__init__(message)
        self.value = ParseFault(kind=kind, stage=stage, position=position, message=message)


def parse_stages(text: str) -> FourStages | ParseFault:
    """The four stage texts without tags and outer white space, or the first fault.

    The inverse of ``FourStages.render`` for texts that hold no tag and are not blank.
    """
    try:
        return FourStages.from_mapping(_read(text, STAGES))
    except _Fault as fault:
        return fault.value


def parse_stage(text: str, stage: Stage) -> str | ParseFault:
    """The text of the one stage that ``text``, a continuation of the stages before, consists of."""
    try:
        return _read(text, (stage,))[stage]
    except _Fault as fault:
        return fault.value


def continued(prefix: str, written: str) -> str:
    """What the assistant has written so far, ready for the next stage.

    ``written`` is the raw text that was generated after ``prefix``, kept as it is so that an engine
    finds its cache by exact text; the separator is completed where white space of it is there.
    """
    text = prefix + written
    if text.endswith(SEPARATOR):
        return text
    return text + ("\n" if text.endswith("\n") else SEPARATOR)


def _read(text: str, expected: tuple[Stage, ...]) -> dict[Stage, str]:
    tags = [_Tag(*_STAGE_OF_TAG[m.group()], m.start(), m.end()) for m in _TAG.finditer(text)]
    if not tags:
        if not text.strip():
            raise _Fault(FaultKind.EMPTY, expected[0], 0, "the text is empty")
        raise _Fault(FaultKind.MISSING, expected[0], 0, f"no tag in the text; expected {expected[0].open_tag}")
    texts: dict[Stage, str] = {}
    opened: _Tag | None = None
    end = 0
    for number, tag in enumerate(tags):
        if opened is None:
            _check_outside(text, end, tag.start, tag.stage)
            _check_opening(tag, tags[number + 1 :], texts, expected)
            opened = tag
        else:
            _check_closing(tag, opened, tags[number + 1 :], texts)
            words = text[opened.end : tag.start].strip()
            if not words:
                raise _Fault(FaultKind.EMPTY_STAGE, tag.stage, opened.start, f"{tag.stage} has no words")
            texts[tag.stage] = words
            opened = None
        end = tag.end
    if opened is not None:
        raise _unclosed(opened, "the text ended")
    _check_outside(text, end, len(text), tags[-1].stage)
    for stage in expected:
        if stage not in texts:
            raise _Fault(FaultKind.MISSING, stage, len(text), f"{stage} is missing: the text ended before it")
    return texts


def _check_outside(text: str, start: int, end: int, stage: Stage) -> None:
    between = text[start:end]
    if between.strip():
        place = start + len(between) - len(between.lstrip())
        excerpt = between.strip()[:40]
        raise _Fault(FaultKind.TEXT_OUTSIDE, stage, place, f"words outside the stages: {excerpt!r}")


def _check_opening(tag: _Tag, later: list[_Tag], texts: dict[Stage, str], expected: tuple[Stage, ...]) -> None:
    """Raise unless ``tag`` opens the stage that is due."""
    if tag.stage in texts:
        raise _Fault(FaultKind.DOUBLED, tag.stage, tag.start, f"{tag.stage} was closed before and comes again")
    if not tag.is_opening:
        raise _Fault(FaultKind.UNOPENED, tag.stage, tag.start, f"{tag.stage.close_tag} without {tag.stage.open_tag}")
    due = next((stage for stage in expected if stage not in texts), None)
    if tag.stage is due:
        return
    if due is None:
        raise _Fault(FaultKind.OUT_OF_ORDER, tag.stage, tag.start, f"{tag.stage} after the last stage that was due")
    if any(other.stage is due and other.is_opening for other in later):
        raise _Fault(FaultKind.OUT_OF_ORDER, tag.stage, tag.start, f"{tag.stage} stands before {due}")
    raise _Fault(FaultKind.MISSING, due, tag.start, f"{due} is missing: {tag.stage} stands in its place")


def _check_closing(tag: _Tag, opened: _Tag, later: list[_Tag], texts: dict[Stage, str]) -> None:
    """Raise unless ``tag`` closes the stage that is open."""
    if tag.stage is opened.stage:
        if tag.is_opening:
            raise _Fault(FaultKind.DOUBLED, tag.stage, tag.start, f"{tag.stage.open_tag} twice")
        return
    if tag.is_opening and any(other.stage is opened.stage and not other.is_opening for other in later):
        raise _Fault(FaultKind.NESTED, tag.stage, tag.start, f"{tag.stage} begins inside {opened.stage}")
    if not tag.is_opening:
        kind = FaultKind.DOUBLED if tag.stage in texts else FaultKind.UNOPENED
        raise _Fault(kind, tag.stage, tag.start, f"{tag.stage.close_tag} inside {opened.stage}")
    raise _unclosed(opened, f"{tag.stage} began")


def _unclosed(opened: _Tag, what: str) -> _Fault:
    message = f"{opened.stage} was opened and not closed before {what}"
    return _Fault(FaultKind.UNCLOSED, opened.stage, opened.start, message)
