"""Everything a search did for one question: every candidate, every comparison, what won.

A trace is plain data: ``to_json`` and ``from_json`` are inverses, and a trace holds no image and
no secret.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from reasoning.protocols import StopReason
from reasoning.stages import Stage


class Verdict(StrEnum):
    """What a judge said of two candidates."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    """Undecided by the judge's own account: equal, or the two orders disagree."""
    UNREADABLE = "unreadable"
    """No verdict could be read. Never counted as a vote."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One candidate for a stage, or for the whole answer (``stage`` is None)."""

    id: str
    """``S1.3``: round and number within it, unique in the trace."""
    parent: str | None
    """The candidate it continues, None at the root."""
    stage: Stage | None
    text: str
    """The stage's text without its tags; for a whole answer the text as generated."""
    stop: StopReason
    tokens: int
    logprob: float | None
    """None where the engine gave none."""
    seed: int
    fault: str | None = None
    """Why it cannot be used (``reasoning.parsing.FaultKind``), None when sound."""
    score: float | None = None
    """The selector's score within its round; higher is better."""
    is_kept: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One comparison of two candidates and its outcome."""

    stage: Stage | None
    first: str
    second: str
    """Candidate ids, in the order of the question ``first`` against ``second``."""
    verdict: Verdict
    p_first: float | None = None
    """Probability that ``first`` is better, the mean over both orders; None for free text."""
    is_swap_consistent: bool | None = None
    """Whether both orders named the same winner; None when only one was asked."""
    reply: str = ""
    """What a free-text judge wrote."""
    unread: int = 0
    """Replies, of the one or two asked for, in which no verdict could be read."""


class StepKind(StrEnum):
    """What a search waited for."""

    WRITE = "write"
    """Candidates were written: one batch."""
    SELECT = "select"
    """A selector judged or scored them, in one batch or several rounds of them."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One wait of a search; steps of subtrees lie side by side in time."""

    kind: StepKind
    stage: Stage | None
    started_s: float
    """Seconds since the search began."""
    ended_s: float
    tokens: int
    """Tokens that went through a model for it."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The tree of one answer. ``chosen`` lists the ids of the winning path, root first."""

    question_id: str
    strategy: str
    candidates: tuple[Candidate, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    chosen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What did not go as configured, such as a judge that was lost and replaced by a vote."""
    steps: tuple[Step, ...] = field(default=(), compare=False)
    """When it waited for what. Two traces that differ in their times alone are equal."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Trace:
        raw: dict[str, Any] = json.loads(text)
        return cls(
            question_id=raw["question_id"],
            strategy=raw["strategy"],
            candidates=tuple(_candidate(c) for c in raw["candidates"]),
            comparisons=tuple(_comparison(c) for c in raw["comparisons"]),
            chosen=tuple(raw["chosen"]),
            notes=tuple(raw.get("notes", ())),
            steps=tuple(_step(s) for s in raw.get("steps", ())),
        )


def _stage(value: str | None) -> Stage | None:
    return None if value is None else Stage(value)


def _candidate(raw: dict[str, Any]) -> Candidate:
    return Candidate(**{**raw, "stage": _stage(raw["stage"]), "stop": StopReason(raw["stop"])})


def _comparison(raw: dict[str, Any]) -> Comparison:
    return Comparison(**{**raw, "stage": _stage(raw["stage"]), "verdict": Verdict(raw["verdict"])})


def _step(raw: dict[str, Any]) -> Step:
    return Step(**{**raw, "kind": StepKind(raw["kind"]), "stage": _stage(raw["stage"])})
