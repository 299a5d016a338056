"""The request cache: each finished teacher call is kept by the hash of its payload and never paid again.

A call is kept before its answer is used. Calls that finish together share one transaction, or one
object in an object store; reading and writing happen on threads, so that the event loop goes on.
Knows nothing of what is asked: see ``actors.call_database`` and ``actors.call_segments`` for where
calls lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from actors.call_database import SqliteCalls
from actors.call_database import keys_in as keys_in_folder
from actors.call_database import totals_in as totals_in_folder
from actors.call_records import CallFiles, PaidTotals, StoredCall, StoredReply
from actors.call_segments import SegmentCalls
from actors.call_segments import keys_in as keys_in_store
from actors.call_segments import totals_in as totals_in_store
from cluster.stores import local_path, open_store
from reasoning.errors import ConfigError, InputError

__all__ = ["CallStore", "PaidTotals", "StoredReply", "open_call_store", "paid_totals", "stored_keys"]

_MOST_AT_A_TIME = 1024
"""More calls than this are kept in several transactions, each a fraction of a second."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class CallStore(Protocol):
    """Finished calls by their keys, those of other writers included. Use it on one event loop; close it when done."""

    async def get(self, key: str) -> StoredReply | None:
        """The reply to a call that any writer at the same place has kept by now, None if none has.

        Raises InputError when a store cannot be read for now; a damaged file is logged and passed over.
        """
        ...

    async def put(self, key: str, reply: StoredReply) -> None:
        """Keep a reply. On return it survives the end of this process, and on a local disk that of the machine.

        Raises InputError when it cannot be kept. A caller that is cancelled meanwhile does not undo it.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of all files."""
        ...


def open_call_store(where: str | Path, *, writer: str) -> CallStore:
    """The finished calls at ``where``, a folder or a URI that holds nothing else; it need not exist.

    ``writer`` names this process's own part, and no other's while both live. Reads the keys of all
    calls there are, so it takes seconds for a million; from an event loop, call it on a thread.
    Sixteen bytes of memory for each call on a local disk; for an object store a temporary file holds
    a copy. Raises ConfigError for a name that is no plain file name, InputError for a place that
    cannot be read.
    """
    if not writer or writer.startswith(".") or "/" in writer or "\0" in writer:
        raise ConfigError(f"a call store's writer must be a plain file name, got {writer!r}")
    folder = local_path(where)
    if folder is not None:
        return GroupedCalls(SqliteCalls(folder, writer))
    return GroupedCalls(SegmentCalls(open_store(where), writer))


def paid_totals(where: str | Path) -> PaidTotals:
    """What all calls kept at ``where`` cost, whoever wrote them."""
    folder = local_path(where)
    return totals_in_store(open_store(where)) if folder is None else totals_in_folder(folder)


def stored_keys(where: str | Path) -> set[str]:
    """The keys of all calls kept at ``where``."""
    folder = local_path(where)
    return set(keys_in_store(open_store(where)) if folder is None else keys_in_folder(folder))


class GroupedCalls:
    """A ``CallStore`` over files: what arrives while a thread is busy is its next turn, all of it together."""

    def __init__(self, files: CallFiles) -> None:
        self._files = files
        self._finding: _Turns[str, StoredReply | None] = _Turns(files.find, 0.0, "find-calls")
        self._keeping: _Turns[StoredCall, None] = _Turns(self._append, files.linger_s, "keep-calls")
        self._is_closed = False

    async def get(self, key: str) -> StoredReply | None:
        self._check_open()
        return await self._finding.take_part(key)

    async def put(self, key: str, reply: StoredReply) -> None:
        self._check_open()
        await self._keeping.take_part((key, reply))

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        await self._finding.end()
        await self._keeping.end()
        await asyncio.to_thread(self._files.close)

    def _check_open(self) -> None:
        if self._is_closed:
            raise InputError("this call store is closed; open another to go on")

    def _append(self, calls: list[StoredCall]) -> list[None]:
        self._files.append(calls)
        return [None] * len(calls)


class _Turns(Generic[_Item, _Result]):
    """Hands items to ``work`` on a thread of its own, all that wait at a time, and each its result back."""

    def __init__(self, work: Callable[[list[_Item]], list[_Result]], linger_s: float, name: str) -> None:
        self._work = work
        self._linger_s = linger_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[tuple[_Item, asyncio.Future[_Result]]] = []
        self._turns: asyncio.Task[None] | None = None

    async def take_part(self, item: _Item) -> _Result:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._turns is None or self._turns.done():
            self._turns = loop.create_task(self._take_turns())
        return await future

    async def end(self) -> None:
        if self._turns is not None:
            await self._turns
        self._thread.shutdown()

    async def _take_turns(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            if self._linger_s and len(self._waiting) < _MOST_AT_A_TIME:
                await asyncio.sleep(self._linger_s)
            turn, self._waiting = self._waiting[:_MOST_AT_A_TIME], self._waiting[_MOST_AT_A_TIME:]
            try:
                results = await loop.run_in_executor(self._thread, self._work, [item for item, _ in turn])
            except Exception as error:  # noqa: BLE001  each of those that wait raises it
                for _, future in turn:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(turn, results, strict=True):
                if not future.done():
                    future.set_result(result)
