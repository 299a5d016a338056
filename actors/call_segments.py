"""Finished calls in an object store: small objects that are written once.

An object store has no appending and no locks, so calls that finish together become one object of
compressed JSON lines, ``<writer>/<opening>-<first>-<last>.jsonl.zstd``. ``opening`` is drawn
when the store is opened, so that two of one name never write the same object. ``first`` and ``last``
number the groups inside: a writer melts its small objects into larger ones as it goes, and whoever
reads one takes the larger of two that overlap. What others have written is copied into a temporary
local database as it is found.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from actors.call_records import PaidTotals, StoredCall, StoredReply, from_json, to_json, totals_of
from cluster.logs import get_logger
from cluster.stores import Store
from reasoning.errors import InputError

SUFFIX = ".jsonl.zstd"
_NAME = re.compile(rf"(?P<opening>[^/]+/[0-9a-f]+)-(?P<first>\d+)-(?P<last>\d+){re.escape(SUFFIX)}")
_CODEC = "zstd"
_PIECE_BYTES = 1 << 18
_FAN = 32
"""So many objects are melted into one."""
_READERS = 8
"""Objects that are read at a time."""
_LISTINGS = 5
"""Listings before a store that changes under every one of them counts as broken."""


@dataclass(frozen=True, order=True)
class _Segment:
    """An object: groups ``first`` to ``last`` of one opening of one writer."""

    opening: str
    """Folder and drawn part of the name."""
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.opening}-{self.first:08d}-{self.last:08d}{SUFFIX}"


class SegmentCalls:
    """``actors.call_records.CallFiles`` in an object store."""

    linger_s = 0.2
    """An upload takes as long as this or longer, and each is paid for."""

    def __init__(self, store: Store, writer: str) -> None:
        self._store = store
        self._opening = f"{writer}/{uuid.uuid4().hex[:8]}"
        # A database without a name lies in a temporary file that is gone with its connection.
        self._local = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        for statement in ("PRAGMA journal_mode = OFF", "CREATE TABLE calls (key TEXT PRIMARY KEY, call TEXT NOT NULL)"):
            self._local.execute(statement)
        self._lock = threading.Lock()
        self._known: defaultdict[str, set[int]] = defaultdict(set)
        self._written = 0
        self._levels: list[list[_Segment]] = [[]]
        self._melter = ThreadPoolExecutor(1, thread_name_prefix="melt-calls")
        self._melting: Future[None] | None = None
        self._refresh()

    def find(self, keys: list[str]) -> list[StoredReply | None]:
        found = [self._look_up(key) for key in keys]
        if None in found:
            self._refresh()
            found = [reply or self._look_up(key) for key, reply in zip(keys, found, strict=True)]
        return found

    def append(self, calls: list[StoredCall]) -> None:
        segment = _Segment(self._opening, self._written, self._written)
        lines = b"".join(_to_line(self._written, key, reply) for key, reply in calls)
        try:
            self._store.write(segment.name, _compressed(lines))
        except OSError as error:
            raise InputError(f"{self._store.uri}/{segment.name}: finished calls cannot be kept: {error}") from error
        self._written += 1
        self._keep(calls)
        with self._lock:
            self._levels[0].append(segment)
            is_due = len(self._levels[0]) >= _FAN
        if is_due and (self._melting is None or self._melting.done()):
            self._melting = self._melter.submit(self._melt)

    def close(self) -> None:
        self._melter.shutdown(wait=True)
        self._local.close()

    def _look_up(self, key: str) -> StoredReply | None:
        with self._lock:
            found = self._local.execute("SELECT call FROM calls WHERE key = ?", (key,)).fetchone()
        return None if found is None else from_json(json.loads(found[0]))[1]

    def _keep(self, calls: list[StoredCall]) -> None:
        rows = [(key, json.dumps(to_json(key, reply))) for key, reply in calls]
        with self._lock:
            self._local.execute("BEGIN")
            self._local.executemany("INSERT OR IGNORE INTO calls VALUES (?, ?)", rows)
            self._local.execute("COMMIT")

    def _refresh(self) -> None:
        """Read what other writers have written since."""
        self._known[self._opening].update(range(self._written))
        for calls in _new_calls(self._store, self._known):
            self._keep(calls)

    def _melt(self) -> None:
        """Make one object of each ``_FAN`` of a level; the calls are kept already, so a failure costs nothing."""
        level = 0
        while level < len(self._levels):
            with self._lock:
                parts = self._levels[level][:_FAN]
            if len(parts) < _FAN:
                level += 1
                continue
            whole = _Segment(self._opening, parts[0].first, parts[-1].last)
            try:
                lines = b"".join(_decompressed(self._store.read(part.name)) for part in parts)
                self._store.write(whole.name, _compressed(lines))
                for part in parts:
                    self._store.remove(part.name)
            except OSError as error:
                get_logger("request_cache").warning("small objects stay as they are", error=str(error))
                return
            with self._lock:
                del self._levels[level][:_FAN]
                if level + 1 == len(self._levels):
                    self._levels.append([])
                self._levels[level + 1].append(whole)


def totals_in(store: Store) -> PaidTotals:
    """What all calls in the store cost."""
    calls = (reply for found in _new_calls(store, defaultdict(set)) for _, reply in found)
    return sum((totals_of(reply) for reply in calls), start=PaidTotals())


def keys_in(store: Store) -> Iterator[str]:
    """The key of each call in the store; one that was kept twice comes twice."""
    return (key for found in _new_calls(store, defaultdict(set)) for key, _ in found)


def _new_calls(store: Store, known: defaultdict[str, set[int]]) -> Iterator[list[StoredCall]]:
    """The calls of groups that are not in ``known`` (by opening), object by object; ``known`` learns of them."""
    with ThreadPoolExecutor(_READERS, thread_name_prefix="read-calls") as readers:
        for _ in range(_LISTINGS):
            fresh = [s for s in _listed(store) if not known[s.opening].issuperset(range(s.first, s.last + 1))]
            is_whole = True
            for start in range(0, len(fresh), _READERS):
                some = fresh[start : start + _READERS]
                for segment, data in zip(some, readers.map(lambda s: _read(store, s.name), some), strict=True):
                    if data is None:
                        is_whole = False  # Its writer has melted it since the listing.
                        continue
                    seen = known[segment.opening]
                    yield [call for group, call in _parsed(data, f"{store.uri}/{segment.name}") if group not in seen]
                    seen.update(range(segment.first, segment.last + 1))
            if is_whole:
                return
    raise InputError(f"{store.uri}: objects vanish as fast as they are listed; is something deleting them?")


def _listed(store: Store) -> list[_Segment]:
    """The objects that no other contains."""
    try:
        names = store.names()
    except OSError as error:
        raise InputError(f"{store.uri}: finished calls cannot be listed: {error}") from error
    segments = [
        _Segment(match["opening"], int(match["first"]), int(match["last"]))
        for match in map(_NAME.fullmatch, names)
        if match
    ]
    outermost: list[_Segment] = []
    for segment in sorted(segments, key=lambda s: (s.opening, s.first, -s.last)):
        before = outermost[-1] if outermost else None
        if before is None or before.opening != segment.opening or segment.last > before.last:
            outermost.append(segment)
    return outermost


def _read(store: Store, name: str) -> bytes | None:
    """The object's bytes, None if it is gone."""
    try:
        return store.read(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{store.uri}/{name}: finished calls cannot be read: {error}") from error


def _to_line(group: int, key: str, reply: StoredReply) -> bytes:
    return json.dumps({"group": group, **to_json(key, reply)}).encode() + b"\n"


def _parsed(data: bytes, name: str) -> list[tuple[int, StoredCall]]:
    """The calls of an object, each with its group; of a damaged one those before the place, and a line in the log."""
    found: list[tuple[int, StoredCall]] = []
    rest = b""
    try:
        for piece in _pieces(data):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                raw = json.loads(line)
                found.append((int(raw["group"]), from_json(raw)))
        if rest or not found:
            raise ValueError("it ends in the middle")
    except (OSError, ValueError, KeyError, TypeError) as error:
        get_logger("request_cache").warning(
            "an object of finished calls is damaged; what can be read of it counts", object=name, error=str(error)
        )
    return found


def _pieces(data: bytes) -> Iterator[bytes]:
    """The decompressed bytes, piece by piece; raises OSError where they are damaged."""
    import pyarrow as pa

    with pa.CompressedInputStream(pa.BufferReader(data), _CODEC) as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield bytes(piece)


def _decompressed(data: bytes) -> bytes:
    return b"".join(_pieces(data))


def _compressed(lines: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, _CODEC) as stream:
        stream.write(lines)
    return sink.getvalue().to_pybytes()
