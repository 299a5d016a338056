"""Rows out of large files, one at a time: JSON lists and objects, JSON lines.

What is in a row is not looked at. A file that breaks off or is no JSON raises InputError that names
it; of JSON lines only the broken line is lost, and it is handed on as what it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from reasoning.errors import InputError

_BOM = b"\xef\xbb\xbf"


@contextmanager
def binary(path: Path) -> Iterator[IO[bytes]]:
    """The file, opened behind a byte order mark if it has one. Raises InputError when it cannot be read."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, whatever happens
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    with file:
        if file.read(len(_BOM)) != _BOM:
            file.seek(0)
        yield file


def first_byte(path: Path) -> bytes:
    """The first byte that is no white space; empty for an empty file."""
    with binary(path) as file:
        while block := file.read(4096):
            if plain := block.lstrip():
                return plain[:1]
    return b""


def json_items(path: Path, prefix: str = "item") -> Iterator[Any]:
    """The items of the list at ``prefix`` (``item``: the file is a list; ``data.item``: it is under ``data``)."""
    import ijson

    if prefix == "item" and first_byte(path) != b"[":
        raise InputError(f"{path}: must hold a JSON list of rows")
    count = 0
    with binary(path) as file:
        try:
            for item in ijson.items(file, prefix, use_float=True):
                count += 1
                yield item
        except ijson.JSONError as error:
            raise InputError(f"{path}: is no whole JSON, broken after {count:,} rows: {_text(error)}") from error
    if count == 0 and prefix != "item":
        raise InputError(f"{path}: holds no list {prefix.removesuffix('.item')!r} with rows in it")


def json_entries(path: Path, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys and values of the JSON object at ``prefix`` (empty: the file is the object)."""
    import ijson

    if not prefix and first_byte(path) != b"{":
        raise InputError(f"{path}: must hold a JSON object")
    count = 0
    with binary(path) as file:
        try:
            for key, value in ijson.kvitems(file, prefix, use_float=True):
                count += 1
                yield key, value
        except ijson.JSONError as error:
            raise InputError(f"{path}: is no whole JSON, broken after {count:,} entries: {_text(error)}") from error


def json_lines(path: Path) -> Iterator[Any]:
    """The values of a file with one on each line; a line that is no JSON comes as its text."""
    with binary(path) as file:
        for line in file:
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield line.decode("utf-8", "replace").strip()


def small_json(path: Path) -> Any:
    """The value of a small file, read whole; raises InputError."""
    with binary(path) as file:
        try:
            return json.loads(file.read())
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is no JSON: {error}") from error


def _text(error: Exception) -> str:
    value = error.args[0] if error.args else error
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return " ".join(text.split())
