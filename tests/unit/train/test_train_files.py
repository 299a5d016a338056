"""Shards that can be used, checkpoints that are whole, parameters that decay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from reasoning.errors import InputError
from reasoning.records import RowKind
from train.checkpoints import checkpoint_name, complete_checkpoints, keep_newest, write_marker
from train.config import Precision, TrainConfig
from train.data import survey
from train.deepspeed_setup import deepspeed_settings, parameter_groups
from train.launch import run_training
from train.loop import ahead


def _row(name: str, kind: str = "direct", response: str = "yes") -> dict[str, Any]:
    return {"id": name, "kind": kind, "image": None, "prompt": "p", "response": response}


_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("uri", pa.string()), ("media_type", pa.string())])),
        ("prompt", pa.string()),
        ("response", pa.string()),
    ]
)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path)


def test_survey_counts_kinds_and_repeats(tmp_path: Path) -> None:
    _write(tmp_path / "a.parquet", [_row("1"), _row("2"), _row("3", "four_stage")])
    found = survey([tmp_path])
    assert found.rows == {"direct": 2, "four_stage": 1}
    assert found.rows_per_epoch({}) == 3
    assert found.rows_per_epoch({RowKind.DIRECT: 0, RowKind.FOUR_STAGE: 4}) == 4


def test_digest_follows_the_rows_and_not_the_file_names(tmp_path: Path) -> None:
    _write(tmp_path / "a" / "x.parquet", [_row("1")])
    _write(tmp_path / "b" / "y.parquet", [_row("1")])
    _write(tmp_path / "c" / "x.parquet", [_row("1", response="no")])
    a, b, c = (survey([tmp_path / name]).digest for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("rows", "message"),
    [([_row("7", "poem")], "row '7' is of the unknown kind 'poem'"), ([_row("7", response=" ")], "empty response")],
)
def test_bad_rows_are_refused_by_id(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    _write(tmp_path / "a.parquet", rows)
    with pytest.raises(InputError, match=message):
        survey([tmp_path])


def test_unusable_folders_and_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is no folder"):
        survey([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no \.parquet shard"):
        survey([tmp_path / "empty"])
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="lacks the column 'kind'"):
        survey([tmp_path])
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        survey([tmp_path])


def test_missing_model_is_refused_before_anything_starts(tmp_path: Path) -> None:
    _write(tmp_path / "d" / "a.parquet", [_row("1")])
    config = TrainConfig(model=tmp_path / "m", data=(tmp_path / "d",), output=tmp_path / "o")
    with pytest.raises(InputError, match="is no model folder"):
        run_training(config)
    assert not (tmp_path / "o").exists()


def _checkpoint(folder: Path, step: int, workers: int = 2) -> Path:
    path = folder / checkpoint_name(step)
    path.mkdir(parents=True)
    for rank in range(workers):
        (path / f"part_{rank}").write_text("state")
        write_marker(path, rank=rank, workers=workers)
    return path


def test_only_whole_checkpoints_count(tmp_path: Path) -> None:
    whole = _checkpoint(tmp_path, 5)
    (_checkpoint(tmp_path, 10) / "rank_1.json").unlink()
    (_checkpoint(tmp_path, 15) / "part_0").write_text("st")
    (_checkpoint(tmp_path, 20) / "rank_0.json").write_text('{"wor')
    (_checkpoint(tmp_path, 25) / "part_1").unlink()
    assert complete_checkpoints(tmp_path) == [whole]


def test_newest_whole_checkpoints_stay(tmp_path: Path) -> None:
    paths = [_checkpoint(tmp_path, step) for step in (5, 10, 100)]
    (_checkpoint(tmp_path, 200) / "rank_0.json").unlink()
    keep_newest(tmp_path, 2)
    assert sorted(tmp_path.iterdir()) == paths[1:]


def test_norms_biases_and_gates_do_not_decay() -> None:
    matrix = torch.nn.Parameter(torch.zeros(2, 2))
    norm, gate = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))
    frozen = torch.nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    decayed, plain = parameter_groups([matrix, norm, gate, frozen], 0.1)
    assert decayed["params"] == [matrix]
    assert decayed["weight_decay"] == 0.1
    assert len(plain["params"]) == 2
    assert plain["weight_decay"] == 0.0


def test_number_format_follows_the_device_unless_it_is_named() -> None:
    config = TrainConfig(model=Path("m"), data=(Path("d"),), output=Path("o"))
    assert deepspeed_settings(config, on_gpu=True)["bf16"]["enabled"]
    assert not deepspeed_settings(config, on_gpu=False)["bf16"]["enabled"]
    asked = config.model_copy(update={"precision": Precision.BF16})
    assert deepspeed_settings(asked, on_gpu=False)["bf16"]["enabled"]


def test_ahead_keeps_order_and_raises_what_the_function_raises() -> None:
    assert list(ahead(lambda n: n * n, range(50), threads=3)) == [n * n for n in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda n: 1 // n, [1, 0], threads=2))
