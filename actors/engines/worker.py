"""The thread that owns a model: takes jobs in, runs prompts, steps the rows, hands answers out.

Continuous batching: between two steps of generation waiting requests join where there is room, so
requests of many questions share every step. Nothing but this thread touches the model.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from actors.chat import ImageFacts
from actors.engines.families import Family
from actors.engines.image_store import ImageStore
from actors.engines.jobs import Job, Row
from actors.engines.prefill import Prefill, Prefilled
from actors.engines.prefix_tree import PrefixTree
from actors.engines.running import RunningRows
from actors.engines.sampling import Uniforms
from actors.engines.stops import StopTexts
from reasoning.errors import EngineError
from reasoning.protocols import ChoiceReply, ContinuationRequest
from reasoning.records import ImageRef


class CachedBytes(NamedTuple):
    """What is kept for requests that may come."""

    prefixes: int
    """Keys and values of prefixes."""
    images: int
    """Encoded images."""


class Worker:
    """Runs until ``stop``; jobs may be submitted from any thread."""

    def __init__(
        self,
        family: Family[Any],
        *,
        stops: StopTexts,
        eos_ids: frozenset[int],
        read_image: Callable[[ImageRef], ImageFacts],
        threads: int,
        max_rows: int,
        max_prefill_tokens: int,
        prefix_cache_bytes: int,
        image_cache_bytes: int,
    ) -> None:
        self._family = family
        self._stops = stops
        self._threads = threads
        self._max_rows = max_rows
        self._max_prefill_tokens = max_prefill_tokens
        self._tree, self._store = PrefixTree(prefix_cache_bytes), ImageStore(image_cache_bytes)
        # The buffers are made in the mode in which they are used: a compiled step tells the two apart.
        with torch.inference_mode():
            self._prefill = Prefill(family, self._tree, self._store, read_image)
            self._running = RunningRows(family, stops, eos_ids, self._tree)
        self._inbox: queue.SimpleQueue[Sequence[Job] | None] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()
        self._gate = threading.Lock()
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="transformers-engine", daemon=True)
        self._thread.start()

    @property
    def running_rows(self) -> int:
        """Rows in generation right now, for metrics and tests."""
        return len(self._running.rows)

    @property
    def cached_bytes(self) -> CachedBytes:
        """What the caches hold right now."""
        return CachedBytes(prefixes=self._tree.bytes, images=self._store.bytes)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs that belong together; raises EngineError after ``stop``."""
        with self._gate:
            if not self._is_open:
                raise EngineError("the engine was closed")
            self._inbox.put(jobs)

    def stop(self) -> None:
        """End the thread; what is unfinished fails with EngineError. Calling it again does nothing."""
        with self._gate:
            if not self._is_open:
                return
            self._is_open = False
            self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            while self._take():
                try:
                    self._admit()
                    self._running.step()
                except Exception as error:  # noqa: BLE001 - goes to every caller concerned
                    self._fail_all(error)
        self._fail_all(EngineError("the engine was closed"))

    def _take(self) -> bool:
        """Fetch what was submitted; waits when there is nothing to do. False once the engine stops."""
        is_idle = not self._waiting and not self._running.rows
        while True:
            try:
                jobs = self._inbox.get(block=is_idle)
            except queue.Empty:
                return True
            if jobs is None:
                return False
            self._waiting.extend(jobs)
            is_idle = False

    def _admit(self) -> None:
        """Run the prompts of as many waiting jobs as there is room for."""
        admitted: list[Job] = []
        rows, tokens = len(self._running.rows), 0
        while self._waiting:
            job = self._waiting[0]
            is_full = rows > 0 and rows + job.row_count > self._max_rows
            if (job.row_count and is_full) or (admitted and tokens + len(job.ids) > self._max_prefill_tokens):
                break
            self._waiting.popleft()
            if job.future.done():
                continue
            admitted.append(job)
            rows += job.row_count
            tokens += len(job.ids)
        try:
            for prefilled in self._prefill.run(admitted):
                self._begin(prefilled)
        except Exception:
            # Their prompts may be half run: they fail together with the rows, in _run.
            self._waiting.extendleft(reversed(admitted))
            raise

    def _begin(self, prefilled: Prefilled) -> None:
        """Answer the choices among the prompts, fork the others to their rows."""
        for number, job in enumerate(prefilled.jobs):
            logits = prefilled.logits[number]
            if not job.row_count:
                logprobs = logits.log_softmax(-1)[list(job.option_ids)].tolist()
                job.answer(ChoiceReply(logprobs=tuple(logprobs), usage=job.usage(0)))
            else:
                self._running.start(self._rows(job), logits, prefilled.kv, prefilled.images, number)

    def _rows(self, job: Job) -> list[Row]:
        request = job.request
        assert isinstance(request, ContinuationRequest)
        table = self._stops.table(request.stops)
        limit = min(request.sampling.max_new_tokens, self._family.context - len(job.ids))
        return [
            Row(
                job=job,
                place=place,
                seed=seed,
                uniforms=Uniforms(seed),
                stops=request.stops,
                stop_table=table,
                limit=limit,
            )
            for place, seed in enumerate(request.seeds)
        ]

    def _fail_all(self, error: Exception) -> None:
        """Every caller that still waits gets an EngineError; the engine is empty afterwards."""
        told = error if isinstance(error, EngineError) else EngineError(f"the engine failed on a step: {error!r}")
        told.__cause__ = None if told is error else error
        jobs = {id(row.job): row.job for row in self._running.clear()}
        jobs |= {id(job): job for job in self._waiting}
        self._waiting.clear()
        while not self._inbox.empty():
            jobs |= {id(job): job for job in self._inbox.get() or ()}
        for job in jobs.values():
            job.fail(told)
