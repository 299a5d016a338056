"""Runs searches. It holds no model: candidates and judgements come from engine pools.

A plain class; ``serve/app.py`` makes a deployment of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from reasoning.protocols import Engine
from reasoning.records import Question
from reasoning.search import run_search
from reasoning.search.config import SearchConfig
from reasoning.search.result import SearchResult
from serve.events import StageEvent, StageObserver


class Orchestrator:
    """Answers questions with one engine to write and one to judge."""

    def __init__(self, generator: Engine, judge: Engine) -> None:
        self._generator = generator
        self._judge = judge

    async def answer(self, question: Question, search: SearchConfig) -> SearchResult:
        """The result for ``question``; raises EngineError when the engines are lost."""
        return await run_search(question, search, generator=self._generator, judge=self._judge, clock=time.perf_counter)

    async def stream(self, question: Question, search: SearchConfig) -> AsyncIterator[StageEvent | SearchResult]:
        """Events as they happen, then the result. Closing the stream ends the search."""
        events: asyncio.Queue[StageEvent | None] = asyncio.Queue()
        observer = StageObserver(self._generator, events.put_nowait)
        task = asyncio.ensure_future(
            run_search(question, search, generator=observer, judge=self._judge, clock=time.perf_counter)
        )
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
