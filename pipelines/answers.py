"""The rows of ``results/<search>/part-*.parquet``: one answer to one question by one search.

Reading and writing of rows only; nothing is answered or graded here. The image stays with the
question's own shard: a row knows it by the question's id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.storage import read_commits, read_run
from pipelines.schemas import open_parquet
from reasoning.counts import VerdictCounts
from reasoning.errors import InputError
from reasoning.ledger import Ledger
from reasoning.records import AnswerType, Question

SCORE_KIND = "score"
RESULTS = "results"
_STRINGS = pa.list_(pa.string())
LEDGER_FIELDS: tuple[str, ...] = tuple(Ledger().as_dict())
COUNT_FIELDS: tuple[str, ...] = tuple(VerdictCounts().as_dict())
_FLOAT_FIELDS = frozenset({"seconds", "dollars"})

SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("family", pa.string()),
        ("question", pa.string()),
        ("choices", _STRINGS),
        ("answer", pa.string()),
        ("answers", _STRINGS),
        ("answer_type", pa.string()),
        ("search", pa.string()),
        ("strategy", pa.string()),
        ("conclusion", pa.string()),
        ("is_correct", pa.bool_()),
        ("fault", pa.string()),
        ("summary", pa.string()),
        ("caption", pa.string()),
        ("reasoning", pa.string()),
        ("text", pa.string()),
        ("score", pa.float64()),
        ("score_kind", pa.string()),
        ("stop_reasons", _STRINGS),
        ("ended_by", pa.string()),
        ("trace", pa.string()),
        *((name, pa.float64() if name in _FLOAT_FIELDS else pa.int64()) for name in LEDGER_FIELDS),
        ("computed_tokens", pa.int64()),
        *((name, pa.int64()) for name in COUNT_FIELDS),
        ("error", pa.string()),
        ("error_type", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer as read back; ``question`` carries no image and of ``meta`` only the family."""

    question: Question
    search: str
    strategy: str
    conclusion: str | None
    is_correct: bool | None
    """None where the question has no known answer, or where the row is an error."""
    fault: str | None
    trace: str | None
    """The trace as JSON, None for an error row."""
    ledger: Ledger
    error: str | None
    error_type: str | None

    @property
    def family(self) -> str:
        return self.question.meta.get("family", "")


def question_columns(question: Question) -> dict[str, Any]:
    """The columns that repeat the question, without its image."""
    return {
        "question_id": question.id,
        "source": question.source,
        "split": question.split,
        "family": question.meta.get("family", ""),
        "question": question.question,
        "choices": list(question.choices),
        "answer": question.answer,
        "answers": list(question.answers),
        "answer_type": question.answer_type.value,
    }


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows with any of the columns as a table with all of them; missing ones are null."""
    return pa.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in rows], schema=SCHEMA)


def answer_from(row: Mapping[str, Any]) -> Answer:
    """One row of the table back as an Answer."""
    question = Question(
        id=row["question_id"],
        question=row["question"] or "",
        source=row["source"] or "",
        split=row["split"] or "",
        choices=tuple(row["choices"] or ()),
        answer=row["answer"],
        answers=tuple(row["answers"] or ()),
        answer_type=AnswerType(row["answer_type"] or AnswerType.FREE),
        meta={"family": row["family"]} if row["family"] else {},
    )
    return Answer(
        question=question,
        search=row["search"],
        strategy=row["strategy"],
        conclusion=row["conclusion"],
        is_correct=row["is_correct"],
        fault=row["fault"],
        trace=row["trace"],
        ledger=Ledger.from_dict({name: row[name] or 0 for name in LEDGER_FIELDS}),
        error=row["error"],
        error_type=row["error_type"],
    )


def committed_files(run: Path) -> dict[str, list[Path]]:
    """Search name to the files of its committed shards, searches in the order they were configured in.

    Raises InputError where ``run`` is no output folder of ``score`` or holds no answer yet.
    """
    order = read_run(run, kind=SCORE_KIND)["identity"]["search_order"]
    files: dict[str, list[Path]] = {name: [] for name in order}
    for commit in read_commits(run):
        for name in commit.files:
            files[Path(name).parent.name].append(run / name)
    found = {name: sorted(paths) for name, paths in files.items() if paths}
    if not found:
        raise InputError(f"{run}: holds no committed answers yet; run `score` into it to its end")
    return found


def read_answers(files: Sequence[Path], *, batch_rows: int = 512) -> Iterator[Answer]:
    """The answers in these files, in their order, a batch of rows in memory at a time."""
    for path in files:
        with open_parquet(path) as parquet:
            for batch in parquet.iter_batches(batch_size=batch_rows):
                for row in batch.to_pylist():
                    yield answer_from(row)
