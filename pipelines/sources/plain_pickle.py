"""Pickles of plain data and numpy arrays, read without running anything that they name.

A pickle is a program: it may call whatever it can import. Here it can import nothing. The few names
that numpy's arrays are written with stand for shells of our own that keep the parts; an array is
made from them afterwards, of plain numbers only, so that no crafted type reaches numpy either.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipelines.sources.base import RowFaultError
from pipelines.sources.streams import binary
from reasoning.errors import InputError

_PLAIN_TYPE = re.compile(r"[<>=|]?[buif][1248]")
_MAX_DIMENSIONS = 3
MAX_BYTES = 1 << 30


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is neither plain data nor an array."""


class _NumberType:
    """Stands for ``numpy.dtype``: the code of a type of numbers and its byte order."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code
        self.order = ""

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, then what only types with fields have)
        is_plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
        if not is_plain or state[1] not in ("<", ">", "=", "|"):
            raise _Refused("a numpy type with fields")
        self.order = state[1]

    def plain(self) -> np.dtype[Any]:
        code = self.code if isinstance(self.code, str) else ""
        if _PLAIN_TYPE.fullmatch(code) is None:
            raise _Refused(f"numpy data of type {self.code!r}")
        kind = np.dtype(code)
        if self.order == ">":
            return kind.newbyteorder(">")
        return kind.newbyteorder("<") if self.order == "<" else kind


@dataclass
class ArrayParts:
    """Stands for ``numpy.ndarray``: what an array is made from."""

    shape: Any = ()
    kind: Any = None
    column_first: bool = False
    data: Any = b""
    more: tuple[Any, ...] = field(default=(), repr=False)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("a numpy array in a form that numpy does not write")
        _, self.shape, self.kind, self.column_first, self.data = state

    def array(self) -> np.ndarray[Any, Any]:
        """The array of numbers; raises RowFaultError when the parts do not make one."""
        try:
            kind = self.kind.plain() if isinstance(self.kind, _NumberType) else None
        except _Refused as error:
            raise RowFaultError(f"an array of {error}; only numbers are read") from error
        data = self.data.encode("latin-1") if isinstance(self.data, str) and self.data.isascii() else self.data
        if kind is None or not isinstance(data, bytes | bytearray) or not _is_shape(self.shape):
            raise RowFaultError("an array that is not plain numbers")
        count = int(np.prod(self.shape, dtype=object))
        if count * kind.itemsize != len(data):
            raise RowFaultError(f"an array of shape {self.shape} with {len(data)} bytes")
        flat = np.frombuffer(bytes(data), dtype=kind)
        return flat.reshape(self.shape, order="F" if self.column_first else "C")


def load_plain_pickle(path: Path) -> Any:
    """The data of a pickle file; arrays come as ``ArrayParts``.

    Pickles cannot be read in parts: the whole is in memory. Raises InputError when the file is no
    pickle, is larger than 1 GiB, or names anything but plain data and numpy arrays.
    """
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: has {path.stat().st_size:,} bytes; pickles of more than {MAX_BYTES:,} are not read")
    with binary(path) as file:
        try:
            # latin-1 as numpy asks for: Python 2 wrote the bytes of arrays as text.
            return _PlainUnpickler(file, encoding="latin-1").load()
        except _Refused as error:
            raise InputError(f"{path}: refused, it holds {error}; only plain data and numpy arrays are read") from error
        except (
            pickle.UnpicklingError,
            EOFError,
            AttributeError,
            LookupError,
            ValueError,
            TypeError,
            OverflowError,
            MemoryError,
            RecursionError,
        ) as error:
            raise InputError(f"{path}: is no readable pickle: {type(error).__name__}: {error}") from error


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is None:
            raise _Refused(f"{module}.{name}")
        return known

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a reference to something outside of it")


def _reconstruct(kind: Any, shape: Any, code: Any) -> ArrayParts:
    if kind is not ArrayParts:
        raise _Refused("an array of another class than numpy's own")
    return ArrayParts()


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> ArrayParts:
    return ArrayParts(shape=shape, kind=kind, column_first=order == "F", data=data)


def _scalar(kind: Any, data: Any = b"") -> int | float | bool:
    content = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(kind, _NumberType) or not isinstance(content, bytes):
        raise _Refused("a numpy scalar that is no number")
    plain = kind.plain()
    if plain.itemsize != len(content):
        raise _Refused(f"a numpy scalar of {len(content)} bytes")
    value: int | float | bool = np.frombuffer(content, dtype=plain)[0].item()
    return value


def _encoded(text: Any, encoding: Any) -> bytes:
    """How pickles of protocol 2 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("an encoding other than latin1")
    return text.encode("latin-1")


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, Sequence)
        and len(shape) <= _MAX_DIMENSIONS
        and all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape)
    )


# numpy 2 renamed numpy.core to numpy._core; files of both are about.
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): ArrayParts,
    ("numpy", "dtype"): _NumberType,
    ("_codecs", "encode"): _encoded,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}
