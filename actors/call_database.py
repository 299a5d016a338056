"""Finished calls on a local disk or a shared POSIX file system: one SQLite file for each writer.

**Why a rollback journal and not a write-ahead log.** A write-ahead log costs one sync a commit
instead of three (2 ms against 5 ms on this project's machine), but SQLite keeps its index in memory
that processes share, so that all of them must be on one machine; a run's workers need not be. With a
rollback journal a file is whole after every commit. What a SIGKILL leaves in the middle of one is
put back by the next process that opens the file, which is why look-ups open files for writing too
and then promise to write nothing. The journal is kept and its head overwritten (``PERSIST``), which
with ``synchronous=FULL`` is durable and spares the folder two changes a commit.

A look-up of what nobody asked before reads no file: the keys of all files are held as marks of
sixteen bytes, and a file is looked at again only when it may have changed. (Where a file system
shows other machines' changes late, as NFS may by seconds, their calls are found as late.)
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from actors.call_marks import MarkIndex
from actors.call_records import PaidTotals, StoredCall, StoredReply, mark_of, to_json
from cluster.logs import get_logger
from reasoning.errors import InputError

SUFFIX = ".sqlite"
_BUSY_S = 60.0
"""So long one process waits for another's commit to end."""
_SETTLED_NS = 5_000_000_000
"""A file that has not changed for so long, by its time of change, is taken to be as it was read.

More than what clocks of time stamps and of machines that share a file system may differ by.
"""
_OPEN_FILES = 32
"""So many files are held open for look-ups."""
_ROWS_AT_A_TIME = 65_536
"""So many keys of a file are held as Python's objects at a time."""
_NO_DAMAGE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
)

_SCHEMA = (
    # What sums and look-ups read stands apart from the texts, so that they need not read those.
    "CREATE TABLE IF NOT EXISTS calls (number INTEGER PRIMARY KEY, key TEXT NOT NULL, finish_reason TEXT NOT NULL, "
    "prompt_tokens INTEGER NOT NULL, generated_tokens INTEGER NOT NULL, dollars REAL NOT NULL, seconds REAL NOT NULL)",
    # SQLite checks the form of its pages and not what is in them, so each call has a sum of its own.
    "CREATE TABLE IF NOT EXISTS texts (number INTEGER PRIMARY KEY, text NOT NULL, refusal, crc INTEGER NOT NULL)",
)
_FIND = (
    "SELECT text, finish_reason, refusal, prompt_tokens, generated_tokens, dollars, seconds, crc "
    "FROM calls JOIN texts USING (number) WHERE number = ? AND key = ?"
)

_Stamp = tuple[int, int]
"""A file's time of change in nanoseconds, and its size."""


@dataclass
class _File:
    """What is known of one writer's file."""

    path: Path
    number: int
    last_row: int = 0
    stamp: _Stamp = (-1, -1)
    """As it was before the file was last read."""
    read_at_ns: int = 0
    is_damaged: bool = False

    def may_have_changed(self, stamp: _Stamp) -> bool:
        return stamp != self.stamp or self.read_at_ns - stamp[0] < _SETTLED_NS

    def note_damage(self, error: Exception) -> None:
        """Say once that a part of this file cannot be read."""
        if not self.is_damaged:
            self.is_damaged = True
            get_logger("request_cache").warning(
                "a file of finished calls is damaged; what can be read of it counts",
                path=str(self.path),
                error=str(error),
            )


class SqliteCalls:
    """``actors.call_records.CallFiles`` in a folder; writes ``<writer>.sqlite`` there and reads the others."""

    linger_s = 0.0

    def __init__(self, folder: Path, writer: str) -> None:
        self._folder = folder
        self._own = _File(folder / f"{writer}{SUFFIX}", 0)
        self._files = [self._own]
        self._by_name = {self._own.path.name: self._own}
        self._connections: OrderedDict[int, sqlite3.Connection] = OrderedDict()
        self._writing: sqlite3.Connection | None = None
        self._index = MarkIndex()
        self._index_lock = threading.Lock()
        if self._own.path.exists():
            self._read_new_rows(self._own)
        self._refresh()

    def find(self, keys: list[str]) -> list[StoredReply | None]:
        found = [self._look_up(key) for key in keys]
        if None in found and self._refresh():
            found = [reply or self._look_up(key) for key, reply in zip(keys, found, strict=True)]
        return found

    def append(self, calls: list[StoredCall]) -> None:
        try:
            rows = self._write(calls)
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"{self._own.path}: finished calls cannot be kept: {error}") from error
        with self._index_lock:
            self._index.add([mark_of(key) for key, _ in calls], self._own.number, rows)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        if self._writing is not None:
            # All is on disk already; a journal that stays behind is empty and does no harm.
            with suppress(sqlite3.Error):
                self._writing.execute("PRAGMA journal_mode = DELETE")
            self._writing.close()
            self._writing = None

    def _write(self, calls: list[StoredCall]) -> range:
        """One transaction; its row numbers."""
        if self._writing is None:
            self._writing = _open_to_write(self._own.path)
        connection = self._writing
        connection.execute("BEGIN IMMEDIATE")
        try:
            first = int(connection.execute("SELECT coalesce(max(number), 0) + 1 FROM calls").fetchone()[0])
            rows = range(first, first + len(calls))
            connection.executemany(
                "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (row, key, r.finish_reason, r.prompt_tokens, r.generated_tokens, r.dollars, r.seconds)
                    for row, (key, r) in zip(rows, calls, strict=True)
                ),
            )
            connection.executemany(
                "INSERT INTO texts VALUES (?, ?, ?, ?)",
                (
                    (row, _to_column(r.text), _to_column(r.refusal), _sum_of(key, r))
                    for row, (key, r) in zip(rows, calls, strict=True)
                ),
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return rows

    def _refresh(self) -> bool:
        """Read what other writers have appended since; whether there was anything."""
        before = len(self._index)
        for path, stamp in _files_in(self._folder):
            file = self._by_name.get(path.name)
            if file is self._own:
                continue
            if file is None:
                file = _File(path, len(self._files))
                self._files.append(file)
                self._by_name[path.name] = file
            if file.may_have_changed(stamp):
                read_at = time.time_ns()
                self._read_new_rows(file)
                file.stamp, file.read_at_ns = stamp, read_at
        return len(self._index) > before

    def _read_new_rows(self, file: _File) -> None:
        found = _rows(lambda: self._connection(file), file, "key", file.last_row)
        while some := [(mark_of(str(key)), row) for row, key in islice(found, _ROWS_AT_A_TIME)]:
            marks, rows = zip(*some, strict=True)
            with self._index_lock:
                self._index.add(marks, file.number, rows)
            file.last_row = max(file.last_row, *rows)

    def _look_up(self, key: str) -> StoredReply | None:
        with self._index_lock:
            places = self._index.places(mark_of(key))
        for number, row in places:
            reply = self._read(self._files[number], row, key)
            if reply is not None:
                return reply
        return None

    def _read(self, file: _File, row: int, key: str) -> StoredReply | None:
        try:
            found = self._connection(file).execute(_FIND, (row, key)).fetchone()
            return None if found is None else _to_reply(key, found)
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            _raise_unless_damage(error, file.path)
            file.note_damage(error)
            return None

    def _connection(self, file: _File) -> sqlite3.Connection:
        connection = self._connections.pop(file.number, None)
        if connection is None:
            connection = _open_to_read(file.path)
            if len(self._connections) >= _OPEN_FILES:
                self._connections.popitem(last=False)[1].close()
        self._connections[file.number] = connection
        return connection


def totals_in(folder: Path) -> PaidTotals:
    """What all calls in the folder's files cost."""
    return sum((_totals_of(path) for path, _ in _files_in(folder)), start=PaidTotals())


def _totals_of(path: Path) -> PaidTotals:
    columns = "prompt_tokens, generated_tokens, dollars"
    try:
        with closing(_open_to_read(path)) as connection:
            if not _has_tables(connection):
                return PaidTotals()
            sums = ", ".join(f"coalesce(sum({column}), 0)" for column in columns.split(", "))
            calls, prompt, generated, dollars = connection.execute(f"SELECT count(*), {sums} FROM calls").fetchone()
            return PaidTotals(calls=calls, prompt_tokens=prompt, generated_tokens=generated, dollars=dollars)
    except sqlite3.DatabaseError:
        totals = PaidTotals()
    for row in _rows_of(path, columns):
        with suppress(ValueError, TypeError):  # A damaged row, and the file was reported.
            cost = PaidTotals(calls=1, prompt_tokens=int(row[1]), generated_tokens=int(row[2]), dollars=float(row[3]))
            totals += cost
    return totals


def keys_in(folder: Path) -> Iterator[str]:
    """The key of each call in the folder's files; one that was kept twice comes twice."""
    return (str(key) for path, _ in _files_in(folder) for _, key in _rows_of(path, "key"))


def _rows_of(path: Path, columns: str) -> Iterator[tuple[Any, ...]]:
    with ExitStack() as stack:
        yield from _rows(lambda: stack.enter_context(closing(_open_to_read(path))), _File(path, 0), columns, 0)


def _has_tables(connection: sqlite3.Connection) -> bool:
    """False while the file's writer has made the file and not yet the tables."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'texts'").fetchone() is not None


def _files_in(folder: Path) -> list[tuple[Path, _Stamp]]:
    """The writers' files, each with its time of change and its size."""
    try:
        with os.scandir(folder) as entries:
            found = [(e.path, e.stat()) for e in entries if e.name.endswith(SUFFIX) and e.is_file()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{folder}: finished calls cannot be read: {error.strerror or error}") from error
    return [(Path(path), (stat.st_mtime_ns, stat.st_size)) for path, stat in found]


def _rows(
    connect: Callable[[], sqlite3.Connection], file: _File, columns: str, after: int
) -> Iterator[tuple[Any, ...]]:
    """Row number and ``columns`` of the calls behind row ``after``.

    Of a damaged file those before the place, and then those behind it from the last one back.
    """
    last = after
    query = f"SELECT number, {columns} FROM calls WHERE number > ? ORDER BY number"
    try:
        connection = connect()
        if not _has_tables(connection):
            return
        # Row by row: rows that are fetched together are lost together when one of them cannot be read.
        for row in connection.execute(query, (after,)):
            last = row[0]
            yield row
    except sqlite3.DatabaseError as error:
        if not file.path.exists():
            return
        _raise_unless_damage(error, file.path)
        file.note_damage(error)
        with suppress(sqlite3.DatabaseError):  # The same place, met from the other side.
            yield from connect().execute(f"{query} DESC", (last,))


def _open_to_write(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    _sync_folder(path.parent.parent)
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = PERSIST")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _open_to_read(path: Path) -> sqlite3.Connection:
    # For writing, where that is allowed: else the journal that a killed writer left could not be put back.
    address = f"file:{quote(str(path.absolute()))}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA query_only = ON")
        # Else SQLite reads nothing of a file that is shorter than its head says.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("PRAGMA cache_size = -512")
    except BaseException:
        connection.close()
        raise
    return connection


def _sync_folder(folder: Path) -> None:
    """Make the name of a folder that was just made survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_damage(error: Exception, path: Path) -> None:
    """InputError for what is wrong with the machine and not with the file: a later look may find all of it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise InputError(
            f"{path}: another process has held this file for {_BUSY_S:g} s; see that its file system's locks work"
        ) from error
    if code & 0xFF in _NO_DAMAGE and code != sqlite3.SQLITE_IOERR_SHORT_READ:
        raise InputError(f"{path}: finished calls cannot be read: {error}") from error


def _to_column(text: str | None) -> str | bytes | None:
    """SQLite's texts are UTF-8; a text with half a surrogate pair, which JSON may hold, is not."""
    try:
        if text is not None:
            text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass") if text is not None else None
    return text


def _from_column(value: Any) -> str:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else str(value)


def _sum_of(key: str, reply: StoredReply) -> int:
    # Floats as floats: a price of 0 comes back as 0.0.
    exact = {**to_json(key, reply), "dollars": float(reply.dollars), "seconds": float(reply.seconds)}
    return zlib.crc32(json.dumps(exact, sort_keys=True).encode())


def _to_reply(key: str, found: tuple[Any, ...]) -> StoredReply:
    """The reply in a row; raises ValueError or TypeError when it is not what was written."""
    text, finish_reason, refusal, prompt_tokens, generated_tokens, dollars, seconds, crc = found
    reply = StoredReply(
        text=_from_column(text),
        finish_reason=str(finish_reason),
        refusal=None if refusal is None else _from_column(refusal),
        prompt_tokens=int(prompt_tokens),
        generated_tokens=int(generated_tokens),
        dollars=float(dollars),
        seconds=float(seconds),
    )
    if _sum_of(key, reply) != crc:
        raise ValueError(f"the call of key {key[:16]} is not what was written")
    return reply
