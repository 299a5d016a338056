"""Files that are there whole or not at all, and the folder of a run.

A run folder holds ``run.json`` (what made it), one marker for each committed shard under
``commits/`` and the shards themselves. Knows nothing of what is in a shard. Local disks and
shared POSIX file systems; no object stores.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reasoning.errors import InputError, OutputMismatchError

RUN_FILE = "run.json"
LOCK_FILE = ".lock"
LEASE_FILE = ".lease"
COMMITS = "commits"
_TEMPORARY = ".partial-"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; on success it becomes ``path``, else it is removed.

    The content is on disk before the name changes, so that a crash at any moment leaves the old file
    or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_atomic(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text_atomic(path, json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


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
    for path in folder.glob(f"{_TEMPORARY}*"):
        path.unlink(missing_ok=True)


def config_hash(identity: Mapping[str, Any]) -> str:
    """Sixteen hex digits that are the same for equal mappings of JSON values, whatever their order."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The marker of a committed shard. Its data files were on disk before it was written."""

    key: str
    """A hash of the shard's content, and the stem of its files."""
    files: tuple[str, ...]
    """Paths of its files, relative to the run folder."""
    counts: dict[str, int]
    """What the shard adds to the run's totals."""


class RunFolder:
    """The output folder of one run, held by one process at a time.

    ``identity`` is what the content depends on: two runs may share a folder if and only if theirs
    are equal. Use as a context manager; the lock ends with the process, however it ends.
    """

    def __init__(self, path: Path, *, kind: str, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.kind = kind
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.config_hash = config_hash(self.identity)
        self.lease = ""
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Take the folder. Raises OutputMismatchError if it is another run's, InputError if it is in use."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be made a folder: {error.strerror or error}") from error
        self._check_is_ours()
        self._take_lock()
        try:
            self._check_is_ours()
            self._begin()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def commits(self) -> list[Commit]:
        """The committed shards, by key."""
        return read_commits(self.path)

    def commit(self, commit: Commit) -> None:
        """Mark a shard of this run as committed, after its files."""
        write_commit(self.path, commit, lease=self.lease)

    def remove_uncommitted(self, folders: tuple[str, ...]) -> list[str]:
        """Remove files in ``folders`` that no marker names; answers which they were."""
        known = {name for commit in self.commits() for name in commit.files}
        removed = []
        for folder in (self.path / name for name in folders):
            remove_partial_files(folder)
            for path in sorted(folder.glob("*")):
                name = str(path.relative_to(self.path))
                if name not in known:
                    path.unlink()
                    removed.append(name)
        return removed

    def _check_is_ours(self) -> None:
        run_file = self.path / RUN_FILE
        if not run_file.exists():
            foreign = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
            if foreign:
                raise OutputMismatchError(
                    f"{self.path} holds {foreign[0]!r} but no {RUN_FILE}, so it is no run folder; take an empty one"
                )
            return
        found = read_json(run_file)
        if not isinstance(found, dict) or found.get("kind") != self.kind:
            other = found.get("kind") if isinstance(found, dict) else None
            raise OutputMismatchError(f"{self.path} holds a run of kind {other!r}, not {self.kind!r}; take another")
        difference = first_difference(found.get("identity", {}), self.identity)
        if difference is not None:
            name, there, here = difference
            raise OutputMismatchError(
                f"{self.path} belongs to a run with {name} = {there!r}; this one has {name} = {here!r}. "
                f"Take another output folder, set {name} back, or remove the folder"
            )

    def _take_lock(self) -> None:
        descriptor = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InputError(f"{self.path} is being written by another process; wait for it or stop it") from error
        self._lock = descriptor

    def _begin(self) -> None:
        self.lease = uuid.uuid4().hex
        write_text_atomic(self.path / LEASE_FILE, self.lease)
        remove_partial_files(self.path)
        run_file = self.path / RUN_FILE
        if not run_file.exists():
            content = {"kind": self.kind, "config_hash": self.config_hash, "identity": self.identity}
            write_json_atomic(run_file, content)

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def write_commit(folder: Path, commit: Commit, *, lease: str) -> None:
    """Mark a shard as committed, after its files.

    Raises OutputMismatchError when another process has taken the folder over since ``lease`` was
    given out: a worker that outlived its run must not write into the next one.
    """
    held = (folder / LEASE_FILE).read_text(encoding="utf-8")
    if held != lease:
        raise OutputMismatchError(f"{folder} was taken over by another run; this one may not write to it any more")
    content = {"key": commit.key, "files": list(commit.files), "counts": commit.counts}
    write_json_atomic(folder / COMMITS / f"{commit.key}.json", content)


def find_commit(folder: Path, key: str) -> Commit | None:
    """The marker of one shard, None while it is not committed."""
    path = folder / COMMITS / f"{key}.json"
    return _read_commit(path) if path.exists() else None


def read_commits(folder: Path) -> list[Commit]:
    """All markers in a run folder, by key."""
    return [_read_commit(path) for path in sorted((folder / COMMITS).glob("[!.]*.json"))]


def read_run(folder: Path, *, kind: str) -> dict[str, Any]:
    """What ``run.json`` says of a finished or unfinished run; raises InputError if it is none of that kind."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise InputError(f"{folder}: is no run folder: there is no {RUN_FILE} in it")
    found = read_json(path)
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise InputError(f"{path}: is of a run of another kind than {kind!r}")
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


def _read_commit(path: Path) -> Commit:
    raw = read_json(path)
    return Commit(key=raw["key"], files=tuple(raw["files"]), counts=raw["counts"])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
