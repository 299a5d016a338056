"""Training rows depend on what was accepted, not on how it lies in shards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from annotation_cases import FLAWED, GOOD, QUESTION, accepted_row, annotation_run

from pipelines.export import write_training_rows
from pipelines.judgements import JudgementConfig
from pipelines.schemas import read_training
from reasoning.errors import InputError, OutputMismatchError
from reasoning.prompts import question_text
from reasoning.records import ImageRef, RowKind, Turn

IMAGE = ImageRef(data=b"png", media_type="image/png")
QUESTIONS = [replace(QUESTION, id=f"q{i}", image=IMAGE) for i in range(5)]
ROWS = [accepted_row(q, flawed_reply=FLAWED.render()) for q in QUESTIONS]


def test_four_stage_and_direct_rows(tmp_path: Path) -> None:
    run = annotation_run(tmp_path / "run", ROWS)
    summary = write_training_rows(run, tmp_path / "sft", kinds=[RowKind.FOUR_STAGE, RowKind.DIRECT])
    assert summary.rows == {RowKind.FOUR_STAGE: 5, RowKind.DIRECT: 5}
    rows = {row.id: row for row in read_training(tmp_path / "sft")}
    four, direct = rows["q3/four_stage"], rows["q3/direct"]
    assert (four.image, four.prompt, four.response) == (IMAGE, question_text(QUESTION), GOOD.render())
    assert (direct.prompt, direct.response) == (question_text(QUESTION), "2")


def test_shards_do_not_matter(tmp_path: Path) -> None:
    one = annotation_run(tmp_path / "one", ROWS)
    many = annotation_run(tmp_path / "many", ROWS[3:], ROWS[:1], ROWS[1:3])
    for run in (one, many):
        write_training_rows(run, run.with_suffix(".sft"), rows_per_file=7)
    assert list(read_training(one.with_suffix(".sft"))) == list(read_training(many.with_suffix(".sft")))
    assert len(list(one.with_suffix(".sft").glob("part-*.parquet"))) == 8


def test_uncommitted_and_rejected_rows_are_not_exported(tmp_path: Path) -> None:
    rejected = {**accepted_row(replace(QUESTION, id="bad")), "is_accepted": False, "reason": "refusal"}
    run = annotation_run(tmp_path / "run", [*ROWS, rejected])
    (run / "accepted" / "torn.parquet").write_bytes(b"PAR1")
    summary = write_training_rows(run, tmp_path / "sft", kinds=[RowKind.FOUR_STAGE])
    assert summary.rows == {RowKind.FOUR_STAGE: 5}


def test_row_without_usable_flaws_is_counted(tmp_path: Path) -> None:
    rows = [accepted_row(QUESTIONS[0]), accepted_row(QUESTIONS[1], flawed_reply="no tags")]
    summary = write_training_rows(annotation_run(tmp_path / "run", rows), tmp_path / "sft")
    assert summary.rows == {RowKind.FOUR_STAGE: 2}
    assert summary.skipped == {"no_flawed_reply": 1, "flawed_unreadable": 1}


def test_later_turn_has_the_earlier_ones_as_its_history(tmp_path: Path) -> None:
    later = replace(QUESTIONS[0], history=(Turn(question=" Hi?\n", answer="Ho. "),))
    run = annotation_run(tmp_path / "run", [accepted_row(later, flawed_reply=FLAWED.render()), *ROWS[1:]])
    summary = write_training_rows(run, tmp_path / "sft")
    assert summary.rows[RowKind.FOUR_STAGE] == 5
    assert not summary.skipped
    rows = {row.id: row for row in read_training(tmp_path / "sft")}
    before = (Turn(question="Hi?", answer="Ho."),)
    assert (rows["q0/four_stage"].history, rows["q0/four_stage"].prompt) == (before, question_text(QUESTION))
    judged = [row for name, row in rows.items() if name.startswith("q0/judge/")]
    assert len(judged) == 10
    assert {row.history for row in judged} == {before}
    # Nothing else about them differs from those of a first turn.
    alone = {row.id: row for row in read_training(_first_turns(tmp_path))}
    assert {name: replace(row, history=()) for name, row in rows.items()} == alone


def _first_turns(folder: Path) -> Path:
    return write_training_rows(annotation_run(folder / "alone", ROWS), folder / "alone.sft").output


def test_picture_stays_what_it_is_in_the_run(tmp_path: Path) -> None:
    far = replace(QUESTION, id="far", image=ImageRef(uri="s3://bucket/é.png", media_type="image/jpeg"))
    run = annotation_run(tmp_path / "run", [accepted_row(far), accepted_row(replace(QUESTION, id="text")), *ROWS])
    write_training_rows(run, tmp_path / "sft", kinds=[RowKind.DIRECT])
    images = {row.id: row.image for row in read_training(tmp_path / "sft")}
    assert images["far/direct"] == far.image
    assert images["text/direct"] is None
    assert images["q0/direct"] == IMAGE
    assert not (tmp_path / "sft" / ".spill").exists()


def test_second_export_is_the_first_and_another_one_is_refused(tmp_path: Path) -> None:
    run = annotation_run(tmp_path / "run", ROWS)
    first = write_training_rows(run, tmp_path / "sft")
    written = (tmp_path / "sft" / "part-00000.parquet").stat().st_mtime_ns
    assert write_training_rows(run, tmp_path / "sft") == first
    assert (tmp_path / "sft" / "part-00000.parquet").stat().st_mtime_ns == written
    with pytest.raises(OutputMismatchError, match=r"judgements\.both_orders"):
        write_training_rows(run, tmp_path / "sft", judgements=JudgementConfig(both_orders=True))


def test_interrupted_export_is_done_again(tmp_path: Path) -> None:
    run = annotation_run(tmp_path / "run", ROWS)
    write_training_rows(run, tmp_path / "sft")
    (tmp_path / "sft" / "commits" / "rows.json").unlink()
    (tmp_path / "sft" / "part-00009.parquet").write_bytes(b"of the first try")
    assert len(list(read_training(write_training_rows(run, tmp_path / "sft").output))) == 5 + 50


def test_nothing_accepted_or_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row was accepted"):
        write_training_rows(annotation_run(tmp_path / "run"), tmp_path / "sft")
    with pytest.raises(InputError, match="no run folder"):
        write_training_rows(tmp_path, tmp_path / "sft")
