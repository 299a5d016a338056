"""Which rows come together, and where a resumed run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from train.batches import batch_rows
from train.config import TrainConfig
from train.data import HISTORY, epoch_batches, plain_batches


@given(lengths=st.lists(st.integers(1, 50), max_size=70), size=st.integers(1, 9))
def test_every_batch_is_full_and_no_row_comes_twice(lengths: list[int], size: int) -> None:
    batches = batch_rows(lengths, size, row_seed="a", batch_seed="b")
    taken = [index for batch in batches for index in batch]
    assert all(len(batch) == size for batch in batches)
    assert len(taken) == len(set(taken)) == len(lengths) - len(lengths) % size


def test_rows_of_like_length_come_together() -> None:
    batches = batch_rows([5, 90, 6, 91, 7, 92], 3, row_seed="a", batch_seed="b")
    assert sorted(sorted(batch) for batch in batches) == [[0, 2, 4], [1, 3, 5]]


def test_workers_see_short_and_long_batches_at_the_same_time() -> None:
    lengths = list(range(64))
    mine = batch_rows(lengths, 4, row_seed="rank 0", batch_seed="both")
    other = batch_rows(lengths, 4, row_seed="rank 1", batch_seed="both")
    assert [min(batch) for batch in mine] == [min(batch) for batch in other]


def test_same_seeds_give_the_same_batches_and_others_do_not() -> None:
    lengths = [3] * 40
    first = batch_rows(lengths, 4, row_seed="a", batch_seed="b")
    assert first == batch_rows(lengths, 4, row_seed="a", batch_seed="b")
    assert first != batch_rows(lengths, 4, row_seed="c", batch_seed="b")


def _config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"model": Path("m"), "data": (Path("d"),), "output": Path("o"), **changes})


def _windows(rows: int, size: int) -> list[pa.Table]:
    columns = {"id": [f"r{i}" for i in range(rows)], "prompt": ["p"] * rows, "response": ["x"] * rows}
    table = pa.table(columns).append_column(HISTORY, pa.nulls(rows, HISTORY.type))
    return [table.slice(start, size) for start in range(0, rows, size)]


def test_skipping_gives_the_rest_of_the_same_epoch() -> None:
    config = _config(batch_size_per_worker=4, shuffle_window=16)
    whole = list(epoch_batches(_windows(42, 16), config, epoch=3, rank=1, skip=0))
    assert len(whole) == 10
    for skip in (1, 4, 6, 10):
        assert list(epoch_batches(_windows(42, 16), config, epoch=3, rank=1, skip=skip)) == whole[skip:]


def test_epochs_differ_in_order() -> None:
    config = _config(batch_size_per_worker=4, shuffle_window=16)
    first = list(epoch_batches(_windows(32, 16), config, epoch=0, rank=0, skip=0))
    assert first != list(epoch_batches(_windows(32, 16), config, epoch=1, rank=0, skip=0))


def test_plain_batches_keep_every_row_in_order() -> None:
    batches = list(plain_batches(_windows(10, 6), 4))
    assert [row["id"] for batch in batches for row in batch] == [f"r{i}" for i in range(10)]
    assert [len(batch) for batch in batches] == [4, 2, 4]
