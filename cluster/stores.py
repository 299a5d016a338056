"""One way to files for local disks and object stores: names below a root, each file whole or not at all.

A store is opened by a path or a URI (``s3://bucket/run``, ``gs://…``, ``file:///…``); names are
relative to it, with ``/``. Knows nothing of what is in a file.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

from reasoning.errors import InputError

TEMPORARY = ".partial-"
"""How the names of unfinished files begin; they are never listed."""


class Store(Protocol):
    """Files below one root."""

    @property
    def uri(self) -> str:
        """What ``open_store`` opens this store by."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file; raises FileNotFoundError."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file; a reader sees the old content or the new, and after a crash too."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """The files below ``folder``, folders inside included, sorted; empty when there is none."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        ...

    def open_file(self, name: str) -> Any:
        """A file that pyarrow can seek in, to be closed by the caller; raises FileNotFoundError."""
        ...


def open_store(where: str | Path) -> Store:
    """The store at a path or URI; makes no file. Raises InputError for a URI that is unknown or holds a key."""
    local = local_path(where)
    if local is not None:
        return LocalStore(local)
    if urlparse(str(where)).password is not None:
        # It would be written into the run's record.
        raise InputError("an address must hold no key; give it in the environment, such as AWS_SECRET_ACCESS_KEY")
    from pyarrow import fs

    try:
        system, path = fs.FileSystem.from_uri(str(where))
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: no file system for this address: {error}") from error
    return ObjectStore(str(where), system, path)


def local_path(where: str | Path) -> Path | None:
    """The path that ``where`` is on this machine, or None for a URI of another kind."""
    if isinstance(where, Path):
        return where
    parts = urlparse(where)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in where else Path(where)


def join(where: str | Path, name: str) -> str:
    """What is called ``name`` below a path or URI; options after a ``?`` stay at the end."""
    address, mark, options = str(where).partition("?") if "://" in str(where) else (str(where), "", "")
    return f"{address.rstrip('/')}/{name}{mark}{options}"


def absolute(where: str | Path) -> str:
    """``where`` as a process with another working folder would have to name it."""
    local = local_path(where)
    return str(where) if local is None else str(local.resolve())


class LocalStore:
    """A folder of a local disk or a shared POSIX file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def uri(self) -> str:
        return str(self.root)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        with atomic_file(self.root / name) as temporary:
            temporary.write_bytes(data)

    def exists(self, name: str) -> bool:
        return (self.root / name).is_file()

    def names(self, folder: str = "") -> list[str]:
        found = (self.root / folder).rglob("*")
        return sorted(
            path.relative_to(self.root).as_posix()
            for path in found
            if path.is_file() and not path.name.startswith(TEMPORARY)
        )

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def open_file(self, name: str) -> Any:
        import pyarrow as pa

        return pa.OSFile(str(self.root / name), "rb")


class ObjectStore:
    """A prefix of a bucket, through pyarrow. A file is there once its upload is complete, and not before."""

    def __init__(self, uri: str, system: Any, path: str) -> None:
        self._uri = uri
        self._system = system
        self._root = path.rstrip("/")

    @property
    def uri(self) -> str:
        return self._uri

    def read(self, name: str) -> bytes:
        with self.open_file(name) as file:
            return bytes(file.read())

    def write(self, name: str, data: bytes) -> None:
        # By default it would compress what is called like a compressed file.
        with self._system.open_output_stream(self._path(name), compression=None) as stream:
            stream.write(data)

    def exists(self, name: str) -> bool:
        from pyarrow import fs

        return bool(self._system.get_file_info(self._path(name)).type == fs.FileType.File)

    def names(self, folder: str = "") -> list[str]:
        from pyarrow import fs

        selector = fs.FileSelector(self._path(folder), recursive=True, allow_not_found=True)
        found = self._system.get_file_info(selector)
        return sorted(info.path[len(self._root) + 1 :] for info in found if info.type == fs.FileType.File)

    def remove(self, name: str) -> None:
        # Some object stores answer a delete of what is not there with an error.
        if self.exists(name):
            self._system.delete_file(self._path(name))

    def open_file(self, name: str) -> Any:
        return self._system.open_input_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; on success it becomes ``path``, else it is removed.

    The content is on disk before the name changes, so that a crash at any moment leaves the old file
    or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
