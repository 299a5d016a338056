"""Records survive Parquet, and bad folders are refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schemas import (
    TRAINING_SCHEMA,
    question_from_row,
    question_to_row,
    read_questions,
    read_training,
    write_questions,
    write_training,
)
from reasoning.errors import InputError
from reasoning.records import AnswerType, ImageRef, Question, RowKind, TrainingRow, Turn

FULL = Question(
    id="q1",
    source="s",
    split="train",
    conversation_id="c",
    turn=2,
    image=ImageRef(data=b"\x00png", media_type="image/webp"),
    question="Which?",
    choices=("a", "b"),
    answer="A",
    answers=("a",),
    answer_type=AnswerType.CHOICE,
    hint="look",
    history=(Turn(question="x?", answer="y"),),
    meta={"family": "count"},
)
BARE = Question(id="q2", question="Why?")
BY_URI = Question(id="q3", question="Where?", image=ImageRef(uri="/data/a.jpg", media_type="image/jpeg"))
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


def test_questions_survive_parquet_in_order(tmp_path: Path) -> None:
    paths = write_questions(tmp_path, [FULL, BARE, BY_URI], rows_per_file=2)
    assert [path.name for path in paths] == ["part-00000.parquet", "part-00001.parquet"]
    assert list(read_questions(tmp_path)) == [FULL, BARE, BY_URI]


def test_training_rows_survive_parquet(tmp_path: Path) -> None:
    rows = [TrainingRow(id="a", kind=RowKind.JUDGEMENT, image=FULL.image, prompt="p", response="r")]
    rows.append(TrainingRow(id="b", kind=RowKind.DIRECT, image=None, prompt="p", response="r"))
    rows.append(replace(rows[0], id="c", history=(Turn(question="x?", answer="y"), Turn(question="", answer=""))))
    write_training(tmp_path, rows)
    assert list(read_training(tmp_path)) == rows
    assert pq.read_schema(tmp_path / "part-00000.parquet").equals(TRAINING_SCHEMA)


def test_training_folders_from_before_the_history_column_are_read(tmp_path: Path) -> None:
    rows = [TrainingRow(id="a", kind=RowKind.DIRECT, image=FULL.image, prompt="p", response="r")]
    table = pq.read_table(write_training(tmp_path, rows)[0])
    pq.write_table(table.drop_columns(["history"]), tmp_path / "part-00000.parquet")
    assert list(read_training(tmp_path)) == rows


@given(
    question=text.filter(str.strip),
    choices=st.lists(text, max_size=3),
    meta=st.dictionaries(text, text, max_size=3),
    answer=st.none() | text,
)
def test_any_question_survives_its_row(
    question: str, choices: list[str], meta: dict[str, str], answer: str | None
) -> None:
    record = Question(id="q", question=question, choices=tuple(choices), meta=meta, answer=answer)
    assert question_from_row(question_to_row(record)) == record


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "?"}, "id None"),
        ({"id": "q", "question": "  "}, "'q': column 'question' is empty"),
        ({"id": "q", "question": "?", "answer_type": "essay"}, "'q'.*essay"),
        ({"id": "q", "question": "?", "meta": "{"}, "'q' cannot be read"),
    ],
)
def test_bad_row_is_refused_with_its_column(row: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        question_from_row(row)


def test_columns_beyond_ours_are_left_alone() -> None:
    assert question_from_row({"id": "q2", "question": "Why?", "license": "CC0", "choices": None}) == BARE
