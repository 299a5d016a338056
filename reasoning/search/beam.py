"""Stage-level beam search: candidates for a stage, the selector keeps some, the next stage goes on from them.

With width 1 this is the published search. What is kept goes on as it was generated, not as it
would be rendered, so that an engine finds its cached prefix by exact text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reasoning.parsing import ParseFault, continued, parse_stage
from reasoning.prompts import question_text
from reasoning.protocols import Continuation, ContinuationRequest, StopReason
from reasoning.search.notebook import Notebook
from reasoning.search.result import SearchResult
from reasoning.seeds import derive_seed
from reasoning.selectors import Draft, Selector
from reasoning.stages import STAGES, FourStages, Stage


@dataclass(frozen=True, kw_only=True)
class _Path:
    """An answer as far as it is written. ``raw`` is exactly what was generated and what joins it."""

    id: str = ""
    """The candidate it ends in; empty at the root."""
    raw: str = ""
    texts: Mapping[Stage, str] = field(default_factory=dict)
    logprob: float = 0.0
    tokens: int = 0

    @property
    def prefix(self) -> str:
        """What the next stage continues: ends in the separator; the model writes the opening tag."""
        return continued(self.raw, "") if self.raw else ""


@dataclass(frozen=True, kw_only=True)
class _Slot:
    """A place in a round: the path it continues and its number in the round."""

    path: _Path
    index: int


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """An unusable candidate."""

    id: str
    text: str
    fault: ParseFault


async def answer_by_stages(book: Notebook, selector: Selector) -> SearchResult:
    """The answer at the end of the best path.

    When a stage has no usable candidate left after its repairs, the result tells the fault of the
    first one.
    """
    paths = [_Path()]
    for stage in STAGES:
        written, failures = await _draw_stage(book, stage, paths)
        if not written:
            first = failures[0]
            return book.failed(text=first.text, last=first.id, fault=first.fault.code)
        distinct = _without_doubles(written)
        keep = 1 if stage is STAGES[-1] else book.config.width
        seed = derive_seed(book.config.seed, book.question.id, stage, purpose="pairs")
        drafts = [_draft(path, stage) for path in distinct]
        selection = await selector.select(book.question, stage, drafts, keep, seed)
        book.settle(selection)
        by_id = {path.id: path for path in distinct}
        paths = [by_id[name] for name in selection.kept]
    [best] = paths
    stages = FourStages.from_mapping(best.texts)
    return book.answered(
        conclusion=stages.conclusion, stages=stages, text=best.raw, chosen=best.id, score_kind=selector.score_kind
    )


async def _draw_stage(book: Notebook, stage: Stage, paths: Sequence[_Path]) -> tuple[list[_Path], list[_Failure]]:
    """The usable candidates of a round in writing order, and the unusable ones.

    Unusable candidates are drawn anew with fresh seeds, ``repair_attempts`` times at most; not at
    temperature 0, where the same text would come again.
    """
    config = book.config
    slots = [_Slot(path=paths[index * len(paths) // config.samples], index=index) for index in range(config.samples)]
    written: dict[int, _Path] = {}
    failures: list[_Failure] = []
    attempts = 1 + (config.repair_attempts if config.sampling.temperature > 0 else 0)
    for attempt in range(attempts):
        open_slots = [slot for slot in slots if slot.index not in written]
        if not open_slots:
            break
        for slot, said in await _draw_slots(book, stage, open_slots, attempt):
            outcome = _read(book, stage, slot, said)
            if isinstance(outcome, _Failure):
                failures.append(outcome)
            else:
                written[slot.index] = outcome
    return [written[index] for index in sorted(written)], failures


async def _draw_slots(
    book: Notebook, stage: Stage, slots: Sequence[_Slot], attempt: int
) -> list[tuple[_Slot, Continuation]]:
    """One batch: a request for each path with the seeds of its slots."""
    groups: dict[str, list[_Slot]] = {}
    for slot in slots:
        groups.setdefault(slot.path.id, []).append(slot)
    requests = [
        ContinuationRequest(
            prompt=question_text(book.question),
            image=book.question.image,
            prefix=group[0].path.prefix,
            stop=stage.close_tag,
            seeds=tuple(derive_seed(book.config.seed, book.question.id, stage, slot.index, attempt) for slot in group),
            sampling=book.config.sampling,
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


def _read(book: Notebook, stage: Stage, slot: _Slot, said: Continuation) -> _Path | _Failure:
    path = slot.path
    parsed = parse_stage(said.text, stage) if said.stop is not StopReason.ABORTED else ParseFault.aborted(stage)
    number = STAGES.index(stage) + 1
    if isinstance(parsed, ParseFault):
        name = book.note(number, stage, path.id or None, said, said.text, parsed.kind.value)
        return _Failure(id=name, text=path.prefix + said.text, fault=parsed)
    return _Path(
        id=book.note(number, stage, path.id or None, said, parsed, None),
        raw=path.prefix + said.text,
        texts={**path.texts, stage: parsed},
        logprob=path.logprob + said.logprob,
        tokens=path.tokens + said.tokens,
    )


def _without_doubles(paths: Sequence[_Path]) -> list[_Path]:
    """The first of each set of paths that say the same in every stage.

    Doubles need no judgement and, at widths above 1, would take one another's place.
    """
    first: dict[tuple[str, ...], _Path] = {}
    for path in paths:
        first.setdefault(tuple(path.texts.values()), path)
    return list(first.values())


def _draft(path: _Path, stage: Stage) -> Draft:
    return Draft(
        id=path.id,
        text=path.texts[stage],
        prior={s: text for s, text in path.texts.items() if s is not stage},
        mean_logprob=path.logprob / max(1, path.tokens),
    )
