"""Pickles: plain data and arrays come out, whatever else is in one does not run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.sources.base import FAULT, RowFaultError, SourceSpec
from pipelines.sources.geoqa_plus import SOURCE
from pipelines.sources.plain_pickle import ArrayParts, load_plain_pickle
from reasoning.errors import InputError
from reasoning.records import Question


class Runs:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "data.pk"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["u1", ">i4", "<f8", "?"])
def test_arrays_of_every_protocol_and_byte_order(protocol: int, kind: str, tmp_path: Path) -> None:
    array = np.arange(6).reshape(2, 3).astype(kind)
    rows = [{"id": 1, "image": array, "label": np.int64(3), "turned": np.asfortranarray(array), "text": "如图"}]
    row = load_plain_pickle(saved(tmp_path, pickle.dumps(rows, protocol=protocol)))[0]
    assert isinstance(row["image"], ArrayParts)
    np.testing.assert_array_equal(row["image"].array(), array)
    np.testing.assert_array_equal(row["turned"].array(), array)
    assert (row["label"], row["text"]) == (3, "如图")


def test_names_of_numpy_1_are_known(tmp_path: Path) -> None:
    data = pickle.dumps([np.arange(3, dtype="u1"), np.float32(0.5)], protocol=2)
    old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    new = data.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
    for content in (old, new):
        parts, scalar = load_plain_pickle(saved(tmp_path, content))
        assert parts.array().tolist() == [0, 1, 2]
        assert scalar == 0.5


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch {}",)),
        (eval, ("open({!r}, 'w')",)),
        (Path, ("{}",)),
        (getattr, (Path, "touch")),
        (np.fromfile, ("{}",)),
        (bytearray, (10,)),
    ],
)
def test_nothing_that_a_pickle_names_is_run(
    function: Any, arguments: tuple[Any, ...], protocol: int, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    filled = tuple(a.format(str(mark)) if isinstance(a, str) else a for a in arguments)
    path = saved(tmp_path, pickle.dumps([{"image": Runs(function, *filled)}], protocol=protocol))
    with pytest.raises(InputError, match="refused, it holds"):
        load_plain_pickle(path)
    assert not mark.exists()


def test_object_arrays_are_no_arrays_of_numbers(tmp_path: Path) -> None:
    parts = load_plain_pickle(saved(tmp_path, pickle.dumps(np.array([None, "x"], dtype=object), protocol=4)))
    with pytest.raises(RowFaultError, match="only numbers"):
        parts.array()


def test_object_array_that_hides_a_call_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    inside = np.array([Runs(os.system, f"touch {mark}")], dtype=object)
    with pytest.raises(InputError, match="refused"):
        load_plain_pickle(saved(tmp_path, pickle.dumps(inside, protocol=2)))
    assert not mark.exists()


def test_bytes_posing_as_pointers_never_become_objects(tmp_path: Path) -> None:
    """An array of numbers whose type is swapped for objects of the same size: numpy itself must not see it."""
    data = pickle.dumps(np.zeros(2, dtype="u8"), protocol=2)
    for forged in (data.replace(b"u8", b"O8"), data.replace(b"u8", b"V8"), data.replace(b"u8", b"M8")):
        assert forged != data
        with pytest.raises(RowFaultError):
            load_plain_pickle(saved(tmp_path, forged)).array()
    scalar = pickle.dumps(np.uint64(1), protocol=2)
    with pytest.raises(InputError, match="O8"):
        load_plain_pickle(saved(tmp_path, scalar.replace(b"u8", b"O8")))


def test_types_with_fields_and_wrong_sizes_are_refused(tmp_path: Path) -> None:
    structured = np.zeros(2, dtype=[("a", "u1"), ("b", "O")])
    with pytest.raises(InputError, match="refused"):
        load_plain_pickle(saved(tmp_path, pickle.dumps(structured, protocol=4)))
    parts = load_plain_pickle(saved(tmp_path, pickle.dumps(np.zeros((2, 3), "u1"), protocol=4)))
    parts.shape = (1 << 40, 1 << 40)
    with pytest.raises(RowFaultError, match="of shape"):
        parts.array()
    parts.shape = (-2, -3)
    with pytest.raises(RowFaultError, match="not plain numbers"):
        parts.array()


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04", pickle.dumps([1, 2])[:-2]])
def test_what_is_no_pickle_says_so(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.pk: is no readable pickle"):
        load_plain_pickle(saved(tmp_path, content))


def test_a_problem_that_holds_itself_is_one_faulty_row(tmp_path: Path) -> None:
    endless: dict[str, Any] = {"id": 1, "subject": "?"}
    endless["image"] = endless
    (tmp_path / "test.pk").write_bytes(pickle.dumps([endless]))
    request = SourceSpec(path=tmp_path).request(tmp_path)
    assert [FAULT in row.meta for row in SOURCE.read(request) if isinstance(row, Question)] == [True]
