"""What an export does with conversations that have gaps, odd pictures, and folders of others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from annotation_cases import QUESTION, accepted_row, annotation_run
from export_cases import GREEN, RED, conversation, made_up_run, rows

from pipelines.exports import spill
from pipelines.exports.config import ExportConfig, ExportFormat
from pipelines.exports.conversations import Joined, RejectedTurn, conversation_key, conversations
from pipelines.exports.images import media_type_of
from pipelines.exports.writing import export_conversations
from reasoning.errors import ImageError, InputError, OutputMismatchError
from reasoning.records import ImageRef, Question

IMAGE = ImageRef(data=RED)


def config(run: Path, output: Path, **settings: Any) -> ExportConfig:
    return ExportConfig(**{"run": str(run), "output": output, "format": ExportFormat.LLAVA, **settings})


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of an export that a user would take along."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def joined(questions: list[Question], rule: RejectedTurn = RejectedTurn.CUT) -> tuple[list[list[str]], Joined]:
    """The ids of the rows in each conversation, and the counts."""
    counts = Joined()
    found = sorted(({**accepted_row(q), "image": q.image and q.image.key} for q in questions), key=conversation_key)
    made = [[exchange.id for exchange in one.exchanges] for one in conversations(found, rule, counts)]
    return made, counts


@pytest.mark.parametrize("form", [ExportFormat.LLAVA, ExportFormat.TRL, ExportFormat.OPENAI])
def test_shards_do_not_matter(tmp_path: Path, form: ExportFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    # Several buckets, as a large run has.
    monkeypatch.setattr(spill, "BUCKET_ROWS", 2)
    for number in (1, 3):
        run = made_up_run(tmp_path / str(number), shards=number)
        export_conversations(config(run, tmp_path / f"out{number}", format=form))
    assert tree(tmp_path / "out1") == tree(tmp_path / "out3")


def test_conversation_ends_before_a_rejected_turn() -> None:
    turns = conversation("c", 4, IMAGE)
    made, counts = joined([turns[0], turns[1], turns[3]])
    assert made == [["c-0", "c-1"]]
    assert counts.left_out == {"c-3": "after_rejected_turn"}
    assert (counts.rows, counts.joined) == (2, 1)


def test_rejected_turn_alone_is_dropped_on_request() -> None:
    turns = conversation("c", 4, IMAGE)
    made, counts = joined([turns[1], turns[3]], RejectedTurn.DROP)
    assert made == [["c-1", "c-3"]]
    assert not counts.left_out


def test_conversations_of_two_sources_are_two() -> None:
    first = conversation("c", 2, IMAGE)
    second = [replace(question, id=f"{question.id}'", source="other") for question in first]
    assert sorted(joined([*first, *second])[0]) == [["c-0", "c-1"], ["c-0'", "c-1'"]]


@pytest.mark.parametrize("change", [{"turn": 0}, {"image": ImageRef(data=GREEN)}])
def test_rows_that_cannot_be_one_conversation_stand_alone(change: dict[str, Any]) -> None:
    first, second = conversation("c", 2, IMAGE)
    made, counts = joined([first, replace(second, history=(), **change)])
    assert made == [["c-0"], ["c-1"]]
    assert (counts.apart, counts.left_out) == (2, {})


def test_turn_without_conversation_keeps_its_history_in_the_prompt() -> None:
    later = replace(conversation("c", 2, IMAGE)[1], conversation_id="")
    counts = Joined()
    (made,) = conversations([{**accepted_row(later), "image": "x.png"}], RejectedTurn.CUT, counts)
    assert made.exchanges[0].user.startswith("Earlier in this conversation:\n\nUser: c turn 0?\nAssistant: short 0")


def test_row_without_usable_picture_is_left_out_and_named(tmp_path: Path) -> None:
    odd = [
        replace(QUESTION, id="gone", image=ImageRef(uri=str(tmp_path / "gone.png"))),
        replace(QUESTION, id="odd", image=ImageRef(data=b"no picture")),
    ]
    cut = conversation("d", 2, ImageRef(data=GREEN))[1]
    run = annotation_run(tmp_path / "run", [accepted_row(q) for q in (*odd, cut, replace(QUESTION, image=IMAGE))])
    result = export_conversations(config(run, tmp_path / "out"))
    assert result.left_out == {"after_rejected_turn": 1, "image_unusable": 2}
    assert result.rows == 1
    found = {line["id"]: line for line in map(json.loads, (tmp_path / "out" / "left_out.jsonl").open())}
    assert found["d-1"]["cause"] == "after_rejected_turn"
    assert "no image at" in found["gone"]["detail"]
    assert "none of png" in found["odd"]["detail"]
    # The picture of the turn that was cut is not left behind.
    assert [path.read_bytes() for path in (tmp_path / "out" / "images").rglob("*.*")] == [RED]


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    run = annotation_run(tmp_path / "run", [accepted_row(replace(QUESTION, image=ImageRef(data=b"no picture")))])
    with pytest.raises(InputError, match=r"every accepted row had to be left out \(image_unusable: 1\); q: picture of"):
        export_conversations(config(run, tmp_path / "out"))
    with pytest.raises(InputError, match="no row was accepted"):
        export_conversations(config(annotation_run(tmp_path / "none"), tmp_path / "out2"))
    with pytest.raises(InputError, match="no run folder"):
        export_conversations(config(tmp_path, tmp_path / "out3"))


def test_second_export_is_the_first_and_another_is_refused(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    first = export_conversations(config(run, tmp_path / "out"))
    written = (tmp_path / "out" / "train.jsonl").stat().st_mtime_ns
    assert export_conversations(config(run, tmp_path / "out")) == first
    assert (tmp_path / "out" / "train.jsonl").stat().st_mtime_ns == written
    with pytest.raises(OutputMismatchError, match="on_rejected_turn"):
        export_conversations(config(run, tmp_path / "out", on_rejected_turn="drop"))
    with pytest.raises(OutputMismatchError, match="accepted_rows"):
        export_conversations(config(annotation_run(tmp_path / "run2", rows(tmp_path / "2")[:3]), tmp_path / "out"))


def test_interrupted_export_is_done_again(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    export_conversations(config(run, tmp_path / "out"))
    whole = tree(tmp_path / "out")
    (tmp_path / "out" / "commits" / "rows.json").unlink()
    (tmp_path / "out" / "train.jsonl").write_text("torn")
    (tmp_path / "out" / "images" / "torn.png").write_bytes(b"torn")
    (tmp_path / "out" / ".spill").mkdir()
    export_conversations(config(run, tmp_path / "out"))
    assert tree(tmp_path / "out") == whole
    assert not (tmp_path / "out" / ".spill").exists()


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    news: list[tuple[int, int, str]] = []
    export_conversations(config(made_up_run(tmp_path), tmp_path / "out"), lambda *args: news.append(args))
    assert [done for done, _, _ in news] == sorted(done for done, _, _ in news)
    assert news[-1] == (14, 14, "done")


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", b"RIFF\0\0\0\0WAVE"])
def test_unknown_bytes_are_no_picture(data: bytes) -> None:
    with pytest.raises(ImageError, match="none of png, jpg, webp"):
        media_type_of(data)
