"""What a client of a stream is told while its question is being answered.

``StageObserver`` stands between the search and its generator and reads from the requests how far
the search has come; it changes nothing that passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reasoning.parsing import ParseFault, parse_stage
from reasoning.protocols import ContinuationReply, ContinuationRequest, Generator
from reasoning.search.result import SearchResult
from reasoning.stages import STAGES, Stage


class EventKind(StrEnum):
    STARTED = "stage_started"
    """Candidates for the stage are being written."""
    CHOSEN = "stage_chosen"
    """The stage is decided, or its survivors are where several go on."""


@dataclass(frozen=True, kw_only=True)
class StageEvent:
    """``stage`` None stands for whole answers."""

    kind: EventKind
    stage: Stage | None
    candidates: int = 0
    """``stage_started``: how many are written."""
    texts: tuple[str, ...] = ()
    """``stage_chosen``: the texts that go on, best first as the search orders them."""

    def as_dict(self) -> dict[str, Any]:
        """The event as clients see it."""
        head = {"event": str(self.kind), "stage": self.stage.value if self.stage else None}
        if self.kind is EventKind.STARTED:
            return {**head, "candidates": self.candidates}
        return {**head, "texts": list(self.texts)}


class StageObserver:
    """A Generator that reports each stage's start, and its outcome once the next one begins."""

    def __init__(self, generator: Generator, emit: Callable[[StageEvent], None]) -> None:
        self._generator = generator
        self._emit = emit
        self._started: set[Stage | None] = set()
        self._chosen: set[Stage] = set()

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        stage = requests[0].stage if requests else None
        if requests and stage not in self._started:
            self._report_start(stage, requests)
        return await self._generator.generate(requests)

    def finish(self, result: SearchResult) -> None:
        """Report the stages whose outcome only the result shows."""
        if result.stages is None:
            return
        for stage in STAGES:
            if stage not in self._chosen:
                self._report_choice(stage, (result.stages[stage],))

    def _report_start(self, stage: Stage | None, requests: Sequence[ContinuationRequest]) -> None:
        before = STAGES[: STAGES.index(stage)] if stage else ()
        if before and before[-1] not in self._chosen:
            texts = (_written(request.prefix, before[-1]) for request in requests)
            self._report_choice(before[-1], tuple(dict.fromkeys(text for text in texts if text)))
        self._started.add(stage)
        count = sum(len(request.seeds) for request in requests)
        self._emit(StageEvent(kind=EventKind.STARTED, stage=stage, candidates=count))

    def _report_choice(self, stage: Stage, texts: tuple[str, ...]) -> None:
        self._chosen.add(stage)
        self._emit(StageEvent(kind=EventKind.CHOSEN, stage=stage, texts=texts))


def _written(prefix: str, stage: Stage) -> str:
    """The text of the stage with which ``prefix`` ends; empty where it does not."""
    parsed = parse_stage(prefix[max(prefix.rfind(stage.open_tag), 0) :], stage)
    return "" if isinstance(parsed, ParseFault) else parsed
