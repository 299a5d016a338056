"""How questions are cut into shards: the same cut in every part of a run, and what is done is left out."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.stores import open_store
from pipelines.schemas import write_questions
from pipelines.sources.parquet import QuestionPlan, plan_questions, read_shard, shard_key, without_ids
from reasoning.errors import InputError
from reasoning.records import Question


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty-five questions, q00 to q24, in files of ten."""
    write_questions(tmp_path, [Question(id=f"q{i:02d}", question="?") for i in range(25)], rows_per_file=10)
    return tmp_path


def planned_ids(plan: QuestionPlan) -> list[str]:
    store = open_store(plan.root)
    return [row["id"] for shard in plan.shards for row in read_shard(store, shard)]


def test_folder_is_checked_before_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        plan_questions(tmp_path / "none", shard_rows=4)
    with pytest.raises(InputError, match="no \\*\\.parquet"):
        plan_questions(tmp_path, shard_rows=4)
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(InputError, match=r"a\.parquet: is no readable Parquet"):
        plan_questions(tmp_path, shard_rows=4)
    for table, complaint in (
        ({"id": ["x"]}, "no column 'question'"),
        ({"id": ["x", "x"], "question": ["?", "?"]}, "the id 'x' stands in 2 rows"),
        ({"id": ["x", ""], "question": ["?", "?"]}, "must hold a text in every row"),
        ({"id": ["x", None], "question": ["?", "?"]}, "must hold a text in every row"),
        ({"id": [1, 2], "question": ["?", "?"]}, "must hold a text in every row"),
    ):
        pq.write_table(pa.table(table), tmp_path / "a.parquet")
        with pytest.raises(InputError, match=complaint):
            plan_questions(tmp_path, shard_rows=4)


def test_every_row_is_in_one_shard_and_the_cut_is_the_same_again(folder: Path) -> None:
    plan = plan_questions(folder, shard_rows=4)
    assert [shard.todo for shard in plan.shards] == [4, 4, 2, 4, 4, 2, 4, 1]
    assert planned_ids(plan) == [f"q{i:02d}" for i in range(25)]
    assert plan_questions(str(folder), shard_rows=4) == plan
    assert plan.shards[0].key == shard_key(["q00", "q01", "q02", "q03"])


def test_small_row_groups_are_pieces_too(tmp_path: Path) -> None:
    table = pa.table({"id": [f"q{i}" for i in range(7)], "question": ["?"] * 7})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    plan = plan_questions(tmp_path / "a.parquet", shard_rows=2)
    assert [shard.todo for shard in plan.shards] == [2, 1, 2, 1, 1]
    assert planned_ids(plan) == [f"q{i}" for i in range(7)]


def test_limit_takes_the_first(folder: Path) -> None:
    assert planned_ids(plan_questions(folder, shard_rows=4, limit=1)) == ["q00"]
    assert planned_ids(plan_questions(folder, shard_rows=4, limit=13)) == [f"q{i:02d}" for i in range(13)]
    assert plan_questions(folder, shard_rows=4, limit=99).rows == 25


def test_dropped_ids_are_left_out_and_counted(folder: Path) -> None:
    drop = pa.array(["q01", "q20", "q21", "q22", "q23", "elsewhere"])
    plan = plan_questions(folder, shard_rows=4, drop=drop)
    assert plan.dropped == 5
    assert planned_ids(plan) == [f"q{i:02d}" for i in range(25) if i not in (1, 20, 21, 22, 23)]


def test_what_was_done_under_another_cut_is_left_out(folder: Path) -> None:
    """Nothing of an earlier part is done again, though it cut and chose otherwise."""
    done = plan_questions(folder, shard_rows=7, limit=12)
    plan, strangers = without_ids(plan_questions(folder, shard_rows=4), pa.array([*planned_ids(done), "vanished"]))
    assert strangers == 1
    assert planned_ids(plan) == [f"q{i:02d}" for i in range(12, 25)]
    assert plan.shards[0].key == shard_key(["q12", "q13"])


def test_a_row_group_that_no_actor_could_hold_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.sources.parquet.MAX_ROW_GROUP_BYTES", 10)
    with pytest.raises(InputError, match=r"part-00000\.parquet: row group 0 holds .* sources prepare"):
        plan_questions(folder, shard_rows=4)
