"""Pictures beside exported rows: each once, under a name that follows from its content.

A name is the SHA-256 of the bytes and the suffix of the format they are in, so two pictures never
get one name, whatever theirs were, and the same picture gets the same name in every export. Only
copies bytes; nothing is decoded or encoded anew.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from actors.images import image_bytes
from reasoning.errors import ImageError
from reasoning.records import ImageRef

_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif", "image/bmp": "bmp",
             "image/tiff": "tif"}  # fmt: skip
_MEDIA_TYPES = {suffix: kind for kind, suffix in _SUFFIXES.items()}
_HEADS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)


def media_type_of(data: bytes) -> str:
    """The media type that the first bytes tell, whatever a row says of it; raises ImageError for no known picture."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    for head, kind in _HEADS:
        if data.startswith(head):
            return kind
    raise ImageError(f"picture of {len(data)} bytes that begins with {data[:8]!r}: none of {', '.join(_MEDIA_TYPES)}")


class ImageFiles:
    """A folder of pictures, made by one process: added by reference, known by name."""

    def __init__(self, root: Path, folder: str) -> None:
        """Pictures go to ``root/folder``; names are relative to ``root``, with ``/``."""
        self._root = root
        self._folder = folder
        self._names: dict[bytes, str] = {}
        self._made: set[str] = set()

    @property
    def count(self) -> int:
        return len(self._names)

    def add(self, ref: ImageRef) -> str:
        """The picture's name, its file written if it is new; raises ImageError when it cannot be read or is none."""
        data = image_bytes(ref)
        return self.add_bytes(data, _SUFFIXES[media_type_of(data)])

    def add_bytes(self, data: bytes, suffix: str) -> str:
        """The name of these bytes, whatever they are, their file written if they are new."""
        digest = hashlib.sha256(data)
        known = self._names.get(digest.digest())
        if known is not None:
            return known
        shelf = f"{self._folder}/{digest.hexdigest()[:2]}"
        name = f"{shelf}/{digest.hexdigest()[:32]}.{suffix}"
        if shelf not in self._made:
            (self._root / shelf).mkdir(parents=True, exist_ok=True)
            self._made.add(shelf)
        _write(self._root / name, data)
        self._names[digest.digest()] = name
        return name

    def read(self, name: str) -> bytes:
        """The bytes behind a name that ``add`` gave."""
        return (self._root / name).read_bytes()


def media_type_of_name(name: str) -> str:
    """The media type of a name that ``ImageFiles.add`` gave."""
    return _MEDIA_TYPES[name.rpartition(".")[2]]


def data_url(data: bytes, media_type: str) -> str:
    """``data:image/png;base64,…``."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _write(path: Path, data: bytes) -> None:
    # Not by way of a temporary name: an export that was interrupted is thrown away as a whole.
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
