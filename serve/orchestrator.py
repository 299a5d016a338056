"""Runs searches. It holds no model: candidates and judgements come from engine pools.

A plain class; ``serve/app.py`` makes a deployment of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from cluster.logs import get_logger
from reasoning.calibration import Moments, drift, first_round_scores, watches_drift
from reasoning.protocols import Engine, Generator, Rewarder
from reasoning.records import Question
from reasoning.search import run_search
from reasoning.search.config import ScoreSpread, SearchConfig
from reasoning.search.result import SearchResult
from reasoning.trace import Trace
from serve.events import StageEvent, StageObserver

_log = get_logger(__name__)


class Orchestrator:
    """Answers questions with one engine to write, one to judge and, where there is one, a reward model."""

    def __init__(self, generator: Engine, judge: Engine, rewarder: Rewarder | None = None) -> None:
        self._generator = generator
        self._judge = judge
        self._rewarder = rewarder
        self._drift = DriftWatch()

    async def answer(self, question: Question, search: SearchConfig) -> SearchResult:
        """The result for ``question``; raises EngineError when the engines are lost."""
        return await self._search(question, search, self._generator)

    async def stream(self, question: Question, search: SearchConfig) -> AsyncIterator[StageEvent | SearchResult]:
        """Events as they happen, then the result. Closing the stream ends the search."""
        events: asyncio.Queue[StageEvent | None] = asyncio.Queue()
        observer = StageObserver(self._generator, events.put_nowait)
        task = asyncio.ensure_future(self._search(question, search, observer))
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            result = await task
            observer.finish(result)
            while not events.empty():
                if (event := events.get_nowait()) is not None:
                    yield event
            yield result
        finally:
            task.cancel()

    async def _search(self, question: Question, search: SearchConfig, generator: Generator) -> SearchResult:
        result = await run_search(
            question,
            search,
            generator=generator,
            judge=self._judge,
            rewarder=self._rewarder,
            clock=time.perf_counter,
        )
        if (said := self._drift.look(search, result.trace)) is not None:
            _log.warning("scores_drifted", what=said)
        return result


class DriftWatch:
    """Scores of retracing searches since the start, held against those that their cutoff was fitted on."""

    def __init__(self) -> None:
        self._seen: dict[ScoreSpread, Moments] = {}
        self._told: set[ScoreSpread] = set()

    def look(self, search: SearchConfig, trace: Trace) -> str | None:
        """In words how they differ, the first time that they do; None else."""
        expected = search.retrace.expected
        if expected is None or not watches_drift(search):
            return None
        seen = self._seen.get(expected, Moments()) + Moments.of(first_round_scores(trace, search))
        self._seen[expected] = seen
        said = None if expected in self._told else drift(expected, seen)
        if said is not None:
            self._told.add(expected)
        return said
