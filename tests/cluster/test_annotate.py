"""Annotation on a real Ray, with a real client against the stand-in over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.teacher import TeacherConfig
from pipelines.annotate import run_annotation
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotation_totals import AnnotateProgress
from pipelines.annotations import ACCEPTED, REJECTED, read_annotated
from pipelines.annotator import AnnotationMode
from pipelines.export import write_training_rows
from pipelines.schemas import QUESTION_SCHEMA, question_to_row, read_training, write_questions, write_rows
from reasoning.errors import OutputMismatchError, TeacherError
from reasoning.records import ImageRef, Question, RowKind
from stagebeam.standin.faults import StandInConfig
from stagebeam.standin.process import StandIn, start_standin
from stagebeam.world.dataset import make_questions

pytestmark = pytest.mark.usefixtures("ray_local")

ROWS = 40


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    """Forty questions in ``tmp_path/questions``, in several files."""
    made = make_questions(ROWS, seed=11, split="train")
    write_questions(tmp_path / "questions", made, rows_per_file=15)
    return made


def config_for(tmp_path: Path, standin: StandIn, **changes: Any) -> AnnotateConfig:
    settings: dict[str, Any] = {
        "input": tmp_path / "questions",
        "output": tmp_path / "run",
        "teacher": TeacherConfig(base_url=standin.base_url, model=standin.model, backoff_s=0.05),
        "shard_rows": 8,
    }
    return AnnotateConfig(**{**settings, **changes})


def all_rows(output: str | Path) -> dict[str, dict[str, Any]]:
    """Every committed row by id; fails on an id that stands twice."""
    rows = [row for part in (ACCEPTED, REJECTED) for row in read_annotated(output, part)]
    assert max(Counter(row["id"] for row in rows).values()) == 1
    return {row["id"]: row for row in rows}


def digests(output: Path) -> dict[str, str]:
    """Content of every committed file."""
    names = [name for path in (output / "commits").glob("*.json") for name in json.loads(path.read_text())["files"]]
    return {name: hashlib.sha256((output / name).read_bytes()).hexdigest() for name in names}


def test_every_row_ends_accepted_or_rejected_with_its_reason(tmp_path: Path, questions: list[Question]) -> None:
    rates = {"refusal": 0.2, "missing_tag": 0.2, "wrong_answer": 0.2, "truncated": 0.0, "leak": 0.0}
    faults = StandInConfig(**rates, stubborn=0.5, retry_after_s=0, seed=2)  # type: ignore[arg-type]
    news: list[AnnotateProgress] = []
    with start_standin(faults) as standin:
        config = config_for(tmp_path, standin, with_judgements=True)
        summary = run_annotation(config, news.append)
        stats = standin.stats()
        assert run_annotation(config).resumed_rows == ROWS
        assert standin.stats() == stats
    rows = all_rows(config.output)
    assert set(rows) == {q.id for q in questions}
    by_reason = Counter(row["reason"] for row in rows.values())
    assert summary.accepted == by_reason.pop(None)
    assert summary.rejected == by_reason
    assert set(by_reason) == {"refusal", "bad_format", "wrong_answer"}
    assert (summary.repaired > 0, summary.flawed) == (True, summary.accepted)
    assert summary.call_retries == 2
    assert summary.calls == sum(stats["calls"].values())
    assert all(row["attempts"] == 3 and row["detail"] for row in rows.values() if row["reason"])
    assert [(n.done, n.rows) for n in (news[0], news[-1])] == [(0, ROWS), (ROWS, ROWS)]
    assert len(news) == 1 + 6
    exported = write_training_rows(tmp_path / "run", tmp_path / "sft")
    assert exported.rows[RowKind.FOUR_STAGE] == summary.accepted
    by_id = {q.id: q for q in questions}
    assert all(row.image == by_id[row.id.split("/")[0]].image for row in read_training(tmp_path / "sft"))


def test_four_prompts(tmp_path: Path, questions: list[Question]) -> None:
    with start_standin(StandInConfig.faultless()) as standin:
        config = config_for(tmp_path, standin, mode=AnnotationMode.FOUR_PROMPTS, limit=9)
        summary = run_annotation(config)
        assert standin.stats()["calls"] == {"stage": 36}
    assert (summary.rows, summary.accepted) == (9, 9)
    assert set(all_rows(config.output)) == {q.id for q in questions[:9]}


def test_bad_rows_end_as_rows(tmp_path: Path, questions: list[Question]) -> None:
    torn = replace(questions[0], id="torn", image=ImageRef(data=b"\x89PNG\r\n\x1a\n"))
    nowhere = replace(questions[0], id="nowhere", image=ImageRef(uri="/no/such/picture.png"))
    unknown = replace(questions[0], id="unknown", answer=None)
    empty = {**question_to_row(questions[0]), "id": "empty", "question": " "}
    odd = {**question_to_row(questions[0]), "id": "odd", "answer_type": "essay"}
    rows = [*(question_to_row(q) for q in (*questions[:3], torn, nowhere, unknown)), empty, odd]
    write_rows(tmp_path / "bad" / "a.parquet", rows, QUESTION_SCHEMA)
    with start_standin(StandInConfig.faultless()) as standin:
        summary = run_annotation(config_for(tmp_path, standin, input=tmp_path / "bad"))
    assert summary.rows == 8
    assert summary.rejected == {"image_unusable": 2, "row_error": 2, "undecided": 1}
    found = all_rows(tmp_path / "run")
    assert "picture.png" in found["nowhere"]["detail"]
    assert "'question' is empty" in found["empty"]["detail"]
    assert found["odd"]["answer_type"] == "essay"


def test_another_config_is_refused_and_the_field_named(tmp_path: Path, questions: list[Question]) -> None:
    with start_standin(StandInConfig.faultless()) as standin:
        run_annotation(config_for(tmp_path, standin, limit=8))
        before = digests(tmp_path / "run")
        with pytest.raises(OutputMismatchError, match=r"max_attempts = 3.*max_attempts = 1"):
            run_annotation(config_for(tmp_path, standin, limit=8, max_attempts=1))
    assert digests(tmp_path / "run") == before


def test_lost_teacher_ends_the_run_with_our_error_and_the_rest_is_done_later(
    tmp_path: Path, questions: list[Question]
) -> None:
    """Two shards are not committed when the teacher goes; a new one, elsewhere, is asked for what is not paid yet."""
    with start_standin(StandInConfig.faultless()) as standin:
        run_annotation(config_for(tmp_path, standin, input=tmp_path / "questions", cache=tmp_path / "old-calls"))
        assert standin.stats()["calls"] == {"annotation": ROWS}
    for commit in sorted((tmp_path / "run" / "commits").glob("*.json"))[:2]:
        commit.unlink()
    config = config_for(tmp_path, standin)
    impatient = config.teacher.model_copy(update={"max_retries": 1, "give_up_after": 2})
    with pytest.raises(TeacherError, match="no teacher answers"):
        run_annotation(config.model_copy(update={"teacher": impatient}))
    with start_standin(StandInConfig(**{**StandInConfig.faultless().model_dump(), "server_errors": 999})) as broken:
        ill = impatient.model_copy(update={"base_url": broken.base_url})
        with pytest.raises(TeacherError, match=r"calls in a row unanswered.*Run again to go on"):
            run_annotation(config.model_copy(update={"teacher": ill}))
    with start_standin(StandInConfig.faultless()) as healthy:
        summary = run_annotation(config_for(tmp_path, healthy))
        assert healthy.stats()["calls"] == {"annotation": 16}
    assert (summary.rows, summary.resumed_rows) == (ROWS, ROWS - 16)
    assert set(all_rows(tmp_path / "run")) == {q.id for q in questions}
