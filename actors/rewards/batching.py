"""One thread that works on batches of what any number of callers hand in.

While a batch is worked on, what comes in waits and goes into the next one together: under load
batches are full, alone nobody waits.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Generic, TypeVar

from reasoning.errors import EngineError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class BatchThread(Generic[ItemT, ResultT]):
    """``work`` gets at most ``batch_size`` items, in the order they came, and gives a result or an error for each."""

    def __init__(self, work: Callable[[Sequence[ItemT]], Sequence[ResultT | Exception]], *, batch_size: int) -> None:
        self._inbox: _Inbox[ItemT, ResultT] = _Inbox(batch_size)
        thread = threading.Thread(target=_run, args=(self._inbox, work), name="reward-batches", daemon=True)
        # Also at exit: a forward pass must not run into the interpreter's end.
        self._finalizer = weakref.finalize(self, _stop, self._inbox, thread)
        thread.start()

    async def results(self, items: Sequence[ItemT]) -> list[ResultT]:
        """In the order of ``items``; raises the first error among them, EngineError when closed.

        Cancelling takes out what is not worked on yet.
        """
        futures = self._inbox.put(items)
        try:
            return list(await asyncio.gather(*(asyncio.wrap_future(future) for future in futures)))
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """End the thread; what waits fails with EngineError."""
        self._finalizer()


class _Inbox(Generic[ItemT, ResultT]):
    """What waits, under a lock."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._waiting: deque[tuple[ItemT, Future[ResultT]]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, items: Sequence[ItemT]) -> list[Future[ResultT]]:
        """All at once, so that they are not torn apart by a thread that wakes early."""
        with self._changed:
            if self._is_closed:
                raise EngineError("the reward model is closed")
            futures: list[Future[ResultT]] = [Future() for _ in items]
            self._waiting.extend(zip(items, futures, strict=True))
            self._changed.notify()
            return futures

    def take(self) -> list[tuple[ItemT, Future[ResultT]]]:
        """The next batch; empty at the end."""
        with self._changed:
            while True:
                batch: list[tuple[ItemT, Future[ResultT]]] = []
                while self._waiting and len(batch) < self._batch_size:
                    item, future = self._waiting.popleft()
                    if future.set_running_or_notify_cancel():
                        batch.append((item, future))
                if batch or self._is_closed:
                    return batch
                self._changed.wait()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for _, future in left:
            _settle(future, EngineError("the reward model was closed"))


def _run(inbox: _Inbox[ItemT, ResultT], work: Callable[[Sequence[ItemT]], Sequence[ResultT | Exception]]) -> None:
    while batch := inbox.take():
        results: Sequence[ResultT | Exception]
        try:
            results = work([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  handed to whoever waits for it
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            _settle(future, result)


def _settle(future: Future[ResultT], result: ResultT | Exception) -> None:
    # Whoever waited may have gone.
    with suppress(InvalidStateError):
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _stop(inbox: _Inbox[ItemT, ResultT], thread: threading.Thread) -> None:
    inbox.close()
    thread.join(timeout=60)
