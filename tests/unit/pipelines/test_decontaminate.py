"""The report tells every kind, the drop list holds those asked for, and every question is accounted for."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contamination_cases import LONG, copy_of, drawn, encoded, in_this_process

from pipelines.decontaminate import (
    DecontaminateConfig,
    DecontaminationSummary,
    read_drop_list,
    run_decontamination,
)
from pipelines.decontaminate_match import MatchKind
from pipelines.schemas import read_rows, write_questions
from reasoning.errors import ConfigError, InputError, OutputMismatchError
from reasoning.records import ImageRef, Question
from stagebeam.settings import build_config

OURS = [
    Question(id="leak", question="Which bar is the tallest?", image=ImageRef(data=copy_of(1))),
    Question(id="other-question", question="How high is bar three?", image=ImageRef(data=copy_of(2))),
    Question(id="text-leak", question=LONG, image=ImageRef(data=encoded(drawn(40)))),
    Question(id="generic", question="Which bar is the tallest?", image=ImageRef(data=encoded(drawn(41)))),
    Question(id="odd", question="What?", image=ImageRef(data=b"no picture")),
    Question(id="gone", question="What?", image=ImageRef(uri="/nowhere/1.png")),
    Question(id="plain text", question="Which bar is the tallest?"),
]


def benchmark(folder: Path) -> Path:
    """Three rows, the third with the first one's picture."""
    cells = [base64.b64encode(encoded(drawn(seed))).decode() for seed in (1, 2)]
    rows = [("1", cells[0], "Which bar is the tallest?"), ("2", cells[1], LONG), ("3", "1", "What is the title?")]
    path = folder / "Bench.tsv"
    path.write_text("index\timage\tquestion\n" + "\n".join("\t".join(row) for row in rows), encoding="utf-8")
    return path


def compare(folder: Path, ours: list[Question], **settings: Any) -> DecontaminationSummary:
    write_questions(folder / "questions", ours, rows_per_file=3)
    values = {
        "questions": str(folder / "questions"),
        "against": [str(benchmark(folder))],
        "output": str(folder / "out"),
        **settings,
    }
    return run_decontamination(build_config(DecontaminateConfig, values, source="test"), mapped=in_this_process)


def test_report_tells_all_and_the_drop_list_what_was_asked(tmp_path: Path) -> None:
    summary = compare(tmp_path, OURS)
    matches = {row["id"]: row for row in read_rows(tmp_path / "out" / "matches.parquet")}
    assert {name: row["kind"] for name, row in matches.items()} == {
        "leak": "image_and_question",
        "other-question": "image",
        "text-leak": "question",
    }
    assert (matches["leak"]["benchmark"], matches["leak"]["benchmark_row"]) == ("Bench.tsv", "1")
    assert matches["leak"]["distance"] <= 32
    assert matches["text-leak"]["distance"] is None
    assert matches["text-leak"]["overlap"] == 1
    assert read_drop_list(tmp_path / "out") == {"leak", "other-question"}
    assert read_drop_list(summary.drop_file) == {"leak", "other-question"}
    assert (summary.questions, summary.dropped, summary.unusable, summary.duplicates) == (7, 2, 2, 0)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["unusable"] == {
        "image bytes: not an image, or not one of PNG, JPEG, WEBP, GIF, BMP, TIFF": 1,
        "no image at its address": 1,
    }
    (found,) = report["benchmarks"]
    assert (found["rows"], found["pictures"], found["rows_hit"]) == (3, 3, 2)
    page = summary.report_file.read_text(encoding="utf-8")
    assert "| Bench.tsv | 3 | 3 | 1 | 1 | 1 | 2 |" in page
    assert "## Bench.tsv: image and question" in page
    assert not (tmp_path / "out" / ".work").exists()


def test_kinds_to_drop_are_a_setting(tmp_path: Path) -> None:
    compare(tmp_path, OURS, drop=["question"])
    assert read_drop_list(tmp_path / "out") == {"text-leak"}


def test_picture_of_another_row_counts_for_the_row_that_shares_it(tmp_path: Path) -> None:
    compare(tmp_path, [replace(OURS[0], question="What is the title?")])
    (match,) = read_rows(tmp_path / "out" / "matches.parquet")
    assert (match["kind"], match["benchmark_row"]) == ("image_and_question", "3")


def test_doubles_among_the_questions_are_dropped_but_one(tmp_path: Path) -> None:
    data, bitmap = encoded(drawn(50)), encoded(drawn(50), "BMP")
    first = Question(id="b", question="How many?", answer="6", image=ImageRef(data=data))
    double = replace(first, id="a", question="how many", image=ImageRef(data=bitmap))
    other = replace(first, id="c", answer="7")
    summary = compare(tmp_path, [first, double, other], against=[])
    (match,) = read_rows(tmp_path / "out" / "drop.parquet")
    assert (match["id"], match["kind"], match["benchmark"], match["benchmark_row"]) == ("b", "duplicate", "", "a")
    assert summary.duplicates == 1


def test_of_two_equal_conversations_one_stays_whole(tmp_path: Path) -> None:
    data = ImageRef(data=encoded(drawn(50)))
    turns = [
        Question(id=f"{number}{name}", conversation_id=name, turn=turn, question=f"q {turn}?", image=data)
        for name, numbers in (("x", (9, 8, 7)), ("y", (0, 1, 2)))
        for turn, number in enumerate(numbers)
    ]
    compare(tmp_path, turns, against=[])
    assert read_drop_list(tmp_path / "out") == {"0y", "1y", "2y"}


def test_layout_of_a_source_is_read_as_annotate_reads_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.png").write_bytes(copy_of(1))
    turns = [{"from": "human", "value": "<image>\nWhich bar is the tallest?"}, {"from": "gpt", "value": "The first."}]
    record = {"id": "i", "image": "1.png", "conversations": turns}
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps(record))
    compare(tmp_path, OURS[:1], questions=str(tmp_path / "data" / "train.jsonl"))
    (question,) = read_rows(tmp_path / "out" / "questions")
    assert read_drop_list(tmp_path / "out") == {question["id"]}


def test_finished_comparison_is_answered_and_another_is_refused(tmp_path: Path) -> None:
    first = compare(tmp_path, OURS)
    again = compare(tmp_path, OURS)
    assert again.model_copy(update={"seconds": 0}) == first.model_copy(update={"seconds": 0})
    with pytest.raises(OutputMismatchError, match=r"match\.hash_bits"):
        compare(tmp_path, OURS, match={"hash_bits": 64})


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.tsv: does not exist"):
        compare(tmp_path, OURS[:1], against=[str(tmp_path / "no.tsv")])
    with pytest.raises(InputError, match="nowhere: does not exist"):
        compare(tmp_path, OURS[:1], questions=str(tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="stagebeam decontaminate"):
        read_drop_list(tmp_path)
    write_questions(tmp_path / "q2", OURS[:1])
    assert read_drop_list(tmp_path / "q2" / "part-00000.parquet") == {"leak"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "either `questions` or `sources`"),
        ({"questions": "q", "against": ["a/x.tsv", "b/x.tsv"]}, "two benchmarks have one file name"),
        ({"questions": "q", "match": {"hash_bits": 128}}, "hash_bits"),
        ({"questions": "q", "drop": ["picture"]}, MatchKind.IMAGE_AND_QUESTION.value),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config(DecontaminateConfig, {"output": "o", **values}, source="test")
