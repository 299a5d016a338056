"""Questions into shards: everything once, samples by seed, nothing lost without a count, the same again."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mini_trees import LAYOUTS, MiniTree, put_json, put_lines, said
from moto.server import ThreadedMotoServer
from pyarrow import fs

from pipelines.schemas import read_questions
from pipelines.sources.base import FAULT, SourceSpec
from pipelines.sources.parquet import plan_questions
from pipelines.sources.prepare import PreparedQuestions, PrepareProgress, finished_questions, prepare_questions
from pipelines.sources.seen import SeenKeys
from reasoning.errors import InputError, OutputMismatchError


def spec_of(tree: MiniTree, **options: Any) -> SourceSpec:
    return SourceSpec.model_validate({"path": tree.root, "image_root": tree.image_root, **options})


def numbered(root: Path, rows: int, *, turns: int = 1) -> Path:
    """A LLaVA-style file of so many conversations."""
    talk = [said(*(text for turn in range(turns) for text in (f"{n}.{turn}?", f"{n}"))) for n in range(rows)]
    put_lines(root, [{"id": n, "conversations": conversation} for n, conversation in enumerate(talk)])
    return root


def test_every_layout_in_one_mix_with_all_counts(tmp_path: Path) -> None:
    trees = [make(tmp_path / "data" / name) for name, make in LAYOUTS.items()]
    prepared = prepare_questions([spec_of(tree) for tree in trees], tmp_path / "out", seed=1, rows_per_file=10)
    for tree, counts in zip(trees, prepared.sources, strict=True):
        assert counts.questions == tree.questions + tree.faults
        assert (sum(counts.faults.values()), counts.doubles) == (tree.faults, tree.doubles)
        assert counts.skipped == tree.skipped
    rows = list(read_questions(tmp_path / "out"))
    assert len(rows) == prepared.rows == sum(tree.questions + tree.faults for tree in trees)
    assert sum(FAULT in row.meta for row in rows) == prepared.faults == sum(tree.faults for tree in trees)
    assert prepared.files[:2] == ("part-00000.parquet", "part-00001.parquet")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.parquet")) == list(prepared.files)
    # What annotation asks of a folder of questions: readable, ids unique.
    assert plan_questions(tmp_path / "out", shard_rows=8).rows == prepared.rows


def test_rows_keep_the_order_of_specs_and_files(tmp_path: Path) -> None:
    one, two = numbered(tmp_path / "one.jsonl", 3), numbered(tmp_path / "two.jsonl", 2)
    prepare_questions([SourceSpec(path=two), SourceSpec(path=one)], tmp_path / "out", seed=0, rows_per_file=2)
    assert [(row.source, row.question) for row in read_questions(tmp_path / "out")] == [
        ("two", "0.0?"),
        ("two", "1.0?"),
        ("one", "0.0?"),
        ("one", "1.0?"),
        ("one", "2.0?"),
    ]


def sampled(tmp_path: Path, name: str, seed: int, **options: Any) -> tuple[PreparedQuestions, list[str]]:
    spec = SourceSpec.model_validate({"path": tmp_path / "rows.jsonl", **options})
    prepared = prepare_questions([spec], tmp_path / name, seed=seed)
    return prepared, [row.question for row in read_questions(tmp_path / name)]


def test_take_draws_by_seed_in_the_order_of_the_file(tmp_path: Path) -> None:
    numbered(tmp_path / "rows.jsonl", 200)
    _, first = sampled(tmp_path, "first", 1, take=50)
    _, again = sampled(tmp_path, "again", 1, take=50)
    _, other = sampled(tmp_path, "other", 2, take=50)
    assert first == again != other
    assert len(set(first)) == len(set(other)) == 50
    assert first == sorted(first, key=lambda text: int(text.split(".")[0]))
    # Neither the beginning of the file nor all of one draw in the other.
    assert len(set(first) & set(other)) < 30
    assert max(int(text.split(".")[0]) for text in first) > 150


def test_take_of_a_larger_number_keeps_what_a_smaller_one_drew(tmp_path: Path) -> None:
    numbered(tmp_path / "rows.jsonl", 100)
    _, few = sampled(tmp_path, "few", 1, take=10)
    _, more = sampled(tmp_path, "more", 1, take=40)
    assert set(few) < set(more)


def test_take_counts_conversations_and_keeps_them_whole(tmp_path: Path) -> None:
    numbered(tmp_path / "rows.jsonl", 30, turns=3)
    prepared, questions = sampled(tmp_path, "out", 1, take=7)
    assert (prepared.sources[0].entries, prepared.sources[0].asked_for) == (7, 7)
    assert Counter(text.split(".")[0] for text in questions) == dict.fromkeys((t.split(".")[0] for t in questions), 3)
    assert len(questions) == 21


def test_take_of_more_than_there_is_takes_all(tmp_path: Path) -> None:
    numbered(tmp_path / "rows.jsonl", 5)
    prepared, questions = sampled(tmp_path, "out", 1, take=50)
    assert (len(questions), prepared.sources[0].entries, prepared.sources[0].asked_for) == (5, 5, 50)


def test_take_draws_usable_rows_and_counts_the_others(tmp_path: Path) -> None:
    rows: list[Any] = [{"id": n, "conversations": said(f"{n}?", "yes")} for n in range(40)]
    put_lines(tmp_path / "rows.jsonl", [*rows, *rows[:5], *[{"id": n} for n in range(10)]])
    prepared, questions = sampled(tmp_path, "out", 1, take=20)
    counts = prepared.sources[0]
    assert (len(set(questions)), counts.questions, sum(counts.faults.values())) == (20, 20, 10)
    assert all(text.endswith("?") for text in questions)


def test_an_entry_in_two_sources_is_written_once(tmp_path: Path) -> None:
    numbered(tmp_path / "rows.jsonl", 10)
    spec = SourceSpec(path=tmp_path / "rows.jsonl")
    prepared = prepare_questions([spec, spec.model_copy(update={"take": 3})], tmp_path / "out", seed=0)
    assert prepared.rows == 10
    assert prepared.sources[1].entries == 0


def test_rows_without_picture_or_answer_are_left_out_by_cause(tmp_path: Path) -> None:
    tree = LAYOUTS["scienceqa"](tmp_path / "data")
    prepared = prepare_questions([spec_of(tree, text_only=False)], tmp_path / "out", seed=0)
    assert prepared.skipped == {"without image": 1}
    clevr = LAYOUTS["clevr"](tmp_path / "clevr")
    with pytest.raises(InputError, match="1 left out without answer; only split test"):
        prepare_questions([spec_of(clevr, split="test")], tmp_path / "none", seed=0)
    kept = prepare_questions([spec_of(clevr, split="test", without_answers=True)], tmp_path / "kept", seed=0)
    assert kept.rows == 1


def test_a_finished_folder_is_not_written_again(tmp_path: Path) -> None:
    numbered(tmp_path / "rows.jsonl", 5)
    first, _ = sampled(tmp_path, "out", 1)
    shard = tmp_path / "out" / first.files[0]
    before = shard.stat().st_mtime_ns
    again, _ = sampled(tmp_path, "out", 1)
    assert again.was_done
    assert (again.sources, again.files) == (first.sources, first.files)
    assert shard.stat().st_mtime_ns == before
    assert finished_questions(tmp_path / "out") == again


def test_changed_inputs_are_named(tmp_path: Path) -> None:
    numbered(tmp_path / "rows.jsonl", 5)
    sampled(tmp_path, "out", 1)
    numbered(tmp_path / "rows.jsonl", 6)
    with pytest.raises(OutputMismatchError, match=r"other input files: of source '0 llava' rows\.jsonl was"):
        sampled(tmp_path, "out", 1)


def test_another_seed_or_take_is_another_folder(tmp_path: Path) -> None:
    numbered(tmp_path / "rows.jsonl", 5)
    sampled(tmp_path, "out", 1)
    with pytest.raises(OutputMismatchError, match="seed = 1"):
        sampled(tmp_path, "out", 2)
    with pytest.raises(OutputMismatchError, match="take"):
        sampled(tmp_path, "out", 1, take=2)


def test_an_interrupted_run_begins_anew(tmp_path: Path) -> None:
    numbered(tmp_path / "rows.jsonl", 1500)

    class StopError(Exception):
        pass

    def stop(news: PrepareProgress) -> None:
        if news.read:
            raise StopError

    spec = SourceSpec(path=tmp_path / "rows.jsonl")
    with pytest.raises(StopError):
        prepare_questions([spec], tmp_path / "out", seed=0, rows_per_file=100, on_progress=stop)
    assert finished_questions(tmp_path / "out") is None
    left = sorted((tmp_path / "out").glob("*.parquet"))
    assert len(left) == 5
    left[0].rename(tmp_path / "out" / "part-00099.parquet")
    prepared = prepare_questions([spec], tmp_path / "out", seed=0, rows_per_file=100)
    assert not prepared.was_done
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 15
    assert sum(1 for _ in read_questions(tmp_path / "out")) == 1500


def test_large_pictures_make_smaller_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.sources.prepare.MAX_FILE_BYTES", 200)
    tree = LAYOUTS["vlmeval_tsv"](tmp_path / "data")
    prepared = prepare_questions([spec_of(tree)], tmp_path / "out", seed=0)
    assert len(prepared.files) > 1
    assert sum(1 for _ in read_questions(tmp_path / "out")) == prepared.rows


def test_shards_are_the_same_in_another_folder(tmp_path: Path) -> None:
    tree = LAYOUTS["geoqa_plus"](tmp_path / "data")
    for name in ("one", "two"):
        prepare_questions([spec_of(tree, take=3)], tmp_path / name, seed=5)
    shards = [(tmp_path / name / "part-00000.parquet").read_bytes() for name in ("one", "two")]
    assert shards[0] == shards[1]


def test_faults_of_a_file_that_is_wrong_throughout_stay_few(tmp_path: Path) -> None:
    rows = [{"imgname": "a.png", "query": "?", "label": [n]} for n in range(100)]
    put_json(tmp_path / "train" / "train_human.json", rows)
    counts = prepare_questions([SourceSpec(path=tmp_path)], tmp_path / "out", seed=0).sources[0]
    assert sum(counts.faults.values()) == 100
    assert len(counts.faults) <= 21


def test_no_source_and_no_row_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no source is given"):
        prepare_questions([], tmp_path / "out", seed=0)
    numbered(tmp_path / "rows.jsonl", 2)
    with pytest.raises(InputError, match="only split val was asked for"):
        prepare_questions([SourceSpec(path=tmp_path / "rows.jsonl", split="val")], tmp_path / "out", seed=0)


def test_prepared_questions_are_a_source_themselves(tmp_path: Path) -> None:
    tree = LAYOUTS["aokvqa"](tmp_path / "data")
    prepare_questions([spec_of(tree)], tmp_path / "first", seed=0)
    prepare_questions([SourceSpec(path=tmp_path / "first", split="train")], tmp_path / "second", seed=0)
    wanted = [row for row in read_questions(tmp_path / "first") if row.split == "train"]
    assert list(read_questions(tmp_path / "second")) == wanted


def test_shards_go_to_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = f"127.0.0.1:{server.get_host_and_port()[1]}"
        system = fs.S3FileSystem(
            endpoint_override=address, scheme="http", region="us-east-1", allow_bucket_creation=True
        )
        system.create_dir("bucket")
        where = f"s3://bucket/questions?endpoint_override={address}&scheme=http&region=us-east-1"
        spec = SourceSpec(path=numbered(tmp_path / "rows.jsonl", 25))
        prepared = prepare_questions([spec], where, seed=0, rows_per_file=10)
        assert len(prepared.files) == 3
        assert plan_questions(where, shard_rows=8).rows == 25
        assert prepare_questions([spec], where, seed=0, rows_per_file=10).was_done
    finally:
        server.stop()


def test_seen_keys_hold_many() -> None:
    seen = SeenKeys()
    assert all(seen.add(str(n)) for n in range(5000))
    assert not any(seen.add(str(n)) for n in range(5000))
    assert len(seen) == 5000
    assert "4999" in seen
    assert "5000" not in seen


def test_touching_a_picture_changes_nothing(tmp_path: Path) -> None:
    tree = LAYOUTS["chartqa"](tmp_path / "data")
    first = prepare_questions([spec_of(tree)], tmp_path / "out", seed=0)
    os.utime(tree.root / "ChartQA Dataset" / "train" / "png" / "0.png", (1, 1))
    assert prepare_questions([spec_of(tree)], tmp_path / "out", seed=0).sources == first.sources
