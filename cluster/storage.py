"""The folder of a run: what made it, and which shards are whole. On a local disk or an object store.

A run folder holds ``run.json`` (what made it), one marker for each committed shard under
``commits/`` and the shards themselves. Knows nothing of what is in a shard.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster.stores import TEMPORARY, Store, atomic_file, local_path, open_store
from reasoning.errors import InputError, OutputMismatchError

RUN_FILE = "run.json"
LOCK_FILE = ".lock"
LEASE_FILE = ".lease"
COMMITS = "commits"
_READERS = 16


def write_text_atomic(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_atomic(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text_atomic(path, _json_bytes(value).decode())


def read_json(path: Path) -> Any:
    """The JSON in ``path``; raises InputError naming the file when it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON: {error}") from error


def remove_partial_files(folder: Path) -> None:
    """Remove what interrupted writes left in ``folder``; only for the one process that owns it."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


def config_hash(identity: Mapping[str, Any]) -> str:
    """Sixteen hex digits that are the same for equal mappings of JSON values, whatever their order."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The marker of a committed shard. Its data files were there before it was written."""

    key: str
    """A hash of the shard's content, and the stem of its files."""
    files: tuple[str, ...]
    """Names of its files, relative to the run folder."""
    counts: dict[str, int]
    """What the shard adds to the run's totals."""
    supersedes: tuple[str, ...] = ()
    """Keys of the commits that this one stands in for: from its writing on they are as if they were not there."""
    generation: int = 0
    """How often the shard was done over on purpose."""


class RunFolder:
    """The output folder of one run, held by one process at a time.

    ``identity`` is what the content depends on: two runs may share a folder if and only if theirs
    are equal. Use as a context manager. On a local disk the lock ends with the process, however it
    ends; an object store has no locks, there whoever comes last takes the folder over and the
    workers of the one before may not commit any more.
    """

    def __init__(self, where: Path | str, *, kind: str, identity: Mapping[str, Any]) -> None:
        self.where = where
        self.store = open_store(where)
        self.kind = kind
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.config_hash = config_hash(self.identity)
        self.lease = ""
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Take the folder. Raises OutputMismatchError if it is another run's, InputError if it is in use."""
        folder = local_path(self.where)
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{folder}: cannot be made a folder: {error.strerror or error}") from error
        try:
            self._check_is_ours()
            if folder is not None:
                self._take_lock(folder)
                self._check_is_ours()
            self._begin(folder)
        except OSError as error:
            self._release()
            raise InputError(f"{self.where}: cannot be written: {error}") from error
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    @property
    def path(self) -> Path:
        """The folder on this machine; raises InputError for one in an object store."""
        folder = local_path(self.where)
        if folder is None:
            raise InputError(f"{self.where}: must be a folder of this machine's file system here")
        return folder

    def commits(self) -> list[Commit]:
        """The committed shards, by key."""
        return read_commits(self.where)

    def commit(self, commit: Commit) -> None:
        """Mark a shard of this run as committed, after its files."""
        write_commit(self.where, commit, lease=self.lease)

    def record(self, **more: Any) -> None:
        """Put further entries beside the identity in ``run.json``: what came of the run."""
        found = json.loads(self.store.read(RUN_FILE))
        self.store.write(RUN_FILE, _json_bytes({**found, **more}))

    def remove_uncommitted(self, folders: tuple[str, ...]) -> list[str]:
        """Remove files in ``folders`` that no marker names, and superseded markers; answers which files they were."""
        for key in _superseded(self.store):
            self.store.remove(_commit_name(key))
        known = {name for commit in self.commits() for name in commit.files}
        removed = []
        for folder in folders:
            local = local_path(self.where)
            if local is not None:
                remove_partial_files(local / folder)
            for name in self.store.names(folder):
                if name not in known:
                    self.store.remove(name)
                    removed.append(name)
        return removed

    def _check_is_ours(self) -> None:
        if not self.store.exists(RUN_FILE):
            foreign = [name for name in self.store.names() if not name.split("/")[0].startswith(".")]
            if foreign:
                first = foreign[0].split("/")[0]
                raise OutputMismatchError(
                    f"{self.where} holds {first!r} but no {RUN_FILE}, so it is no run folder; take an empty one"
                )
            return
        found = _parsed(self.store.read(RUN_FILE), f"{self.where}/{RUN_FILE}")
        if not isinstance(found, dict) or found.get("kind") != self.kind:
            other = found.get("kind") if isinstance(found, dict) else None
            raise OutputMismatchError(f"{self.where} holds a run of kind {other!r}, not {self.kind!r}; take another")
        difference = first_difference(found.get("identity", {}), self.identity)
        if difference is not None:
            name, there, here = difference
            raise OutputMismatchError(
                f"{self.where} belongs to a run with {name} = {there!r}; this one has {name} = {here!r}. "
                f"Take another output folder, set {name} back, or remove the folder"
            )

    def _take_lock(self, folder: Path) -> None:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InputError(f"{folder} is being written by another process; wait for it or stop it") from error
        self._lock = descriptor

    def _begin(self, folder: Path | None) -> None:
        self.lease = uuid.uuid4().hex
        self.store.write(LEASE_FILE, self.lease.encode())
        if folder is not None:
            remove_partial_files(folder)
        if not self.store.exists(RUN_FILE):
            content = {"kind": self.kind, "config_hash": self.config_hash, "identity": self.identity}
            self.store.write(RUN_FILE, _json_bytes(content))

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def write_commit(where: Path | str, commit: Commit, *, lease: str) -> None:
    """Mark a shard as committed, after its files.

    Raises OutputMismatchError when another process has taken the folder over since ``lease`` was
    given out: a worker that outlived its run must not write into the next one.
    """
    store = open_store(where)
    if store.read(LEASE_FILE).decode() != lease:
        raise OutputMismatchError(f"{where} was taken over by another run; this one may not write to it any more")
    content: dict[str, Any] = {"key": commit.key, "files": list(commit.files), "counts": commit.counts}
    if commit.supersedes:
        content |= {"supersedes": list(commit.supersedes), "generation": commit.generation}
    store.write(_commit_name(commit.key), _json_bytes(content))


def find_commit(where: Path | str, key: str) -> Commit | None:
    """The marker of one shard, None while it is not committed."""
    store = open_store(where)
    name = _commit_name(key)
    return _read_commit(store, name) if store.exists(name) else None


def read_commits(where: Path | str) -> list[Commit]:
    """All markers in a run folder that no other supersedes, by key."""
    found = _all_commits(open_store(where))
    gone = {key for commit in found for key in commit.supersedes}
    return [commit for commit in found if commit.key not in gone]


def read_run(where: Path | str, *, kind: str) -> dict[str, Any]:
    """What ``run.json`` says of a finished or unfinished run; raises InputError if it is none of that kind."""
    store = open_store(where)
    if not store.exists(RUN_FILE):
        raise InputError(f"{where}: is no run folder: there is no {RUN_FILE} in it")
    found = _parsed(store.read(RUN_FILE), f"{where}/{RUN_FILE}")
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise InputError(f"{where}/{RUN_FILE}: is of a run of another kind than {kind!r}")
    return found


def first_difference(there: Any, here: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first field, as a dotted path, in which two values of JSON differ, and both its values."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            found = first_difference(there.get(key), here.get(key), f"{name}.{key}" if name else key)
            if found is not None:
                return found
        return None
    return None if there == here else (name, there, here)


def _all_commits(store: Store) -> list[Commit]:
    names = [name for name in store.names(COMMITS) if name.endswith(".json")]
    # An object store answers after tens of milliseconds, and a large run has thousands of markers.
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda name: _read_commit(store, name), names))


def _superseded(store: Store) -> set[str]:
    found = _all_commits(store)
    keys = {commit.key for commit in found}
    return {key for commit in found for key in commit.supersedes if key in keys}


def _read_commit(store: Store, name: str) -> Commit:
    raw = _parsed(store.read(name), f"{store.uri}/{name}")
    return Commit(
        key=raw["key"],
        files=tuple(raw["files"]),
        counts=raw["counts"],
        supersedes=tuple(raw.get("supersedes", ())),
        generation=raw.get("generation", 0),
    )


def _commit_name(key: str) -> str:
    return f"{COMMITS}/{key}.json"


def _parsed(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise InputError(f"{name}: is no JSON: {error}") from error


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()
