"""Answers that are being written stage by stage, and the drawing of a stage's candidates.

What is kept goes on as it was generated, not as it would be rendered, so that an engine finds its
cached prefix by exact text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reasoning.drafts import Draft
from reasoning.grading import canonical
from reasoning.parsing import ParseFault, continued, parse_stage
from reasoning.prompts import question_text
from reasoning.protocols import Continuation, ContinuationRequest, Sampling, StopReason
from reasoning.records import Question
from reasoning.search.notebook import Notebook
from reasoning.seeds import derive_seed
from reasoning.stages import STAGES, Stage


@dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """An answer as far as it is written. ``raw`` is exactly what was generated and what joins it."""

    id: str = ""
    """The candidate it ends in; empty at the root."""
    index: int = 0
    """The number of the slot it was drawn for."""
    raw: str = ""
    texts: Mapping[Stage, str] = field(default_factory=dict)
    logprob: float = 0.0
    tokens: int = 0

    @property
    def prefix(self) -> str:
        """What the next stage continues: ends in the separator; the model writes the opening tag."""
        return continued(self.raw, "") if self.raw else ""

    @property
    def mean_logprob(self) -> float:
        """Per token, over everything written for it so far."""
        return self.logprob / max(1, self.tokens)

    def draft(self, stage: Stage) -> Draft:
        """As a selector sees it at ``stage``, its last."""
        prior = {s: text for s, text in self.texts.items() if s is not stage}
        return Draft(
            id=self.id, text=self.texts[stage], prior=prior, mean_logprob=self.mean_logprob, logprob=self.logprob
        )

    def whole(self, question: Question) -> Draft:
        """A finished one as a selector of whole answers sees it."""
        key = canonical(question, self.texts[Stage.CONCLUSION])
        return Draft(id=self.id, text=self.raw.strip(), mean_logprob=self.mean_logprob, logprob=self.logprob, key=key)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An unusable candidate."""

    id: str
    text: str
    fault: ParseFault


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A candidate to be drawn: the path it continues and its number among the stage's draws, for its seed."""

    path: Path
    index: int


def spread(paths: Sequence[Path], samples: int, *, first: int = 0) -> list[Slot]:
    """``samples`` slots, spread evenly over the paths in their order; numbered from ``first``."""
    return [Slot(path=paths[index * len(paths) // samples], index=first + index) for index in range(samples)]


async def draw_stage(
    book: Notebook, stage: Stage, slots: Sequence[Slot], *, sampling: Sampling | None = None
) -> tuple[list[Path], list[Failure]]:
    """The usable candidates in the order of their slots, and the unusable ones.

    Unusable candidates are drawn anew with fresh seeds, ``repair_attempts`` times at most; not at
    temperature 0, where the same text would come again, and not beyond the search's limits.
    """
    sampling = sampling or book.config.sampling
    written: dict[int, Path] = {}
    failures: list[Failure] = []
    attempts = 1 + (book.config.repair_attempts if sampling.temperature > 0 else 0)
    for attempt in range(attempts):
        open_slots = [slot for slot in slots if slot.index not in written]
        if not open_slots or (attempt and written and book.limit_reached()):
            break
        for slot, said in await _draw_slots(book, stage, open_slots, sampling, attempt):
            outcome = _read(book, stage, slot, said)
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                written[slot.index] = outcome
    return [written[slot.index] for slot in slots if slot.index in written], failures


def without_doubles(paths: Sequence[Path]) -> list[Path]:
    """The first of each set of paths that say the same in every stage.

    Doubles need no judgement and, at widths above 1, would take one another's place.
    """
    first: dict[tuple[str, ...], Path] = {}
    for path in paths:
        first.setdefault(tuple(path.texts.values()), path)
    return list(first.values())


async def _draw_slots(
    book: Notebook, stage: Stage, slots: Sequence[Slot], sampling: Sampling, attempt: int
) -> list[tuple[Slot, Continuation]]:
    """One batch: a request for each path with the seeds of its slots."""
    groups: dict[str, list[Slot]] = {}
    for slot in slots:
        groups.setdefault(slot.path.id, []).append(slot)
    requests = [
        ContinuationRequest(
            prompt=question_text(book.question),
            image=book.question.image,
            prefix=group[0].path.prefix,
            stops=(stage.close_tag,),
            seeds=tuple(derive_seed(book.config.seed, book.question.id, stage, slot.index, attempt) for slot in group),
            sampling=sampling,
            stage=stage,
            history=book.question.history,
        )
        for group in groups.values()
    ]
    replies = await book.draw(requests)
    return [
        pair
        for group, reply in zip(groups.values(), replies, strict=True)
        for pair in zip(group, reply.continuations, strict=True)
    ]


def _read(book: Notebook, stage: Stage, slot: Slot, said: Continuation) -> Path | Failure:
    path = slot.path
    parsed = parse_stage(said.text, stage) if said.stop is not StopReason.ABORTED else ParseFault.aborted(stage)
    number = STAGES.index(stage) + 1
    if isinstance(parsed, ParseFault):
        name = book.note(number, stage, path.id or None, said, said.text, parsed.kind.value)
        return Failure(id=name, text=path.prefix + said.text, fault=parsed)
    return Path(
        id=book.note(number, stage, path.id or None, said, parsed, None),
        index=slot.index,
        raw=path.prefix + said.text,
        texts={**path.texts, stage: parsed},
        logprob=path.logprob + said.logprob,
        tokens=path.tokens + said.tokens,
    )
