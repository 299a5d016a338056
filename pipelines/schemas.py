"""How the records lie in Parquet: columns, and the way there and back.

Question columns: ``id, source, split, conversation_id, turn, image{bytes, uri, media_type},
question, choices, answer, answers, answer_type, hint, history[{question, answer}], meta`` (``meta``
is a JSON object as text). Annotated rows have the question's columns and those of
``ANNOTATION_COLUMNS``. Training rows have ``id, kind, image, prompt, response, history``. Only
reading and writing; nothing is decided here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.stores import atomic_file
from reasoning.errors import InputError
from reasoning.records import AnswerType, ImageRef, Question, RowKind, TrainingRow, Turn
from reasoning.stages import STAGES, FourStages

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("uri", pa.string()), ("media_type", pa.string())])
_STRINGS = pa.list_(pa.string())
_TURNS = pa.list_(pa.struct([("question", pa.string()), ("answer", pa.string())]))

QUESTION_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("conversation_id", pa.string()),
        ("turn", pa.int32()),
        ("image", IMAGE_TYPE),
        ("question", pa.string()),
        ("choices", _STRINGS),
        ("answer", pa.string()),
        ("answers", _STRINGS),
        ("answer_type", pa.string()),
        ("hint", pa.string()),
        ("history", _TURNS),
        ("meta", pa.string()),
    ]
)
ROWS_PER_GROUP = 256
"""Rows with images that a reader holds at a time: small, for whoever reads a piece of a file."""
REQUIRED_QUESTION_COLUMNS = ("id", "question")

ANNOTATION_COLUMNS = [
    ("summary", pa.string()),
    ("caption", pa.string()),
    ("reasoning", pa.string()),
    ("conclusion", pa.string()),
    ("is_accepted", pa.bool_()),
    ("reason", pa.string()),
    ("detail", pa.string()),
    ("checks", _STRINGS),
    ("reply", pa.string()),
    ("teacher", pa.string()),
    ("prompt_version", pa.string()),
    ("generation", pa.int32()),
    ("attempts", pa.int32()),
    ("attempt_faults", _STRINGS),
    ("attempt_details", _STRINGS),
    ("attempt_replies", _STRINGS),
    ("call_retries", pa.int32()),
    ("calls", pa.int32()),
    ("cached_calls", pa.int32()),
    ("call_seconds", pa.list_(pa.float32())),
    ("prompt_tokens", pa.int64()),
    ("generated_tokens", pa.int64()),
    ("dollars", pa.float64()),
    ("seconds", pa.float64()),
    ("config_hash", pa.string()),
    ("flawed_reply", pa.string()),
]
ANNOTATED_SCHEMA = pa.schema([*QUESTION_SCHEMA, *[pa.field(name, kind) for name, kind in ANNOTATION_COLUMNS]])

TRAINING_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("image", IMAGE_TYPE),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("history", _TURNS),
    ]
)


def question_to_row(question: Question) -> dict[str, Any]:
    """The question's columns as plain values."""
    return {
        "id": question.id,
        "source": question.source,
        "split": question.split,
        "conversation_id": question.conversation_id,
        "turn": question.turn,
        "image": image_to_value(question.image),
        "question": question.question,
        "choices": list(question.choices),
        "answer": question.answer,
        "answers": list(question.answers),
        "answer_type": question.answer_type.value,
        "hint": question.hint,
        "history": _history_to_value(question.history),
        "meta": json.dumps(question.meta, ensure_ascii=False, sort_keys=True),
    }


def question_from_row(row: Mapping[str, Any]) -> Question:
    """The inverse; absent columns take the record's defaults, further columns are left alone.

    Raises InputError naming the row and the column when a value cannot be used.
    """
    identity = row.get("id")
    if not isinstance(identity, str) or not identity:
        raise InputError(f"a question row has id {identity!r}; it must be a text that names it")
    text = row.get("question")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"question {identity!r}: column 'question' is empty")
    try:
        return Question(
            id=identity,
            source=row.get("source") or "",
            split=row.get("split") or "",
            conversation_id=row.get("conversation_id") or "",
            turn=int(row.get("turn") or 0),
            image=image_from_value(row.get("image")),
            question=text,
            choices=tuple(row.get("choices") or ()),
            answer=row.get("answer"),
            answers=tuple(row.get("answers") or ()),
            answer_type=AnswerType(row.get("answer_type") or AnswerType.FREE),
            hint=row.get("hint") or None,
            history=_history_from_value(row.get("history")),
            meta=_meta(row.get("meta")),
        )
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"question {identity!r} cannot be read: {error}") from error


def image_to_value(image: ImageRef | None) -> dict[str, Any] | None:
    """The ``image`` cell."""
    return None if image is None else {"bytes": image.data, "uri": image.uri, "media_type": image.media_type}


def image_from_value(value: Mapping[str, Any] | None) -> ImageRef | None:
    """The inverse; a cell without bytes and URI is no image."""
    if value is None or (value.get("bytes") is None and not value.get("uri")):
        return None
    return ImageRef(
        data=value.get("bytes"),
        uri=value.get("uri") if value.get("bytes") is None else None,
        media_type=value.get("media_type") or "image/png",
    )


def stages_from_row(row: Mapping[str, Any]) -> FourStages:
    """The four stage texts of an accepted row."""
    return FourStages.from_mapping({stage: row[stage.value.lower()] for stage in STAGES})


def training_to_row(row: TrainingRow) -> dict[str, Any]:
    """The columns of a training row as plain values."""
    return {
        "id": row.id,
        "kind": row.kind.value,
        "image": image_to_value(row.image),
        "prompt": row.prompt,
        "response": row.response,
        "history": _history_to_value(row.history),
    }


def training_from_row(row: Mapping[str, Any]) -> TrainingRow:
    """The inverse of ``training_to_row``; a row without the column ``history`` has no earlier turns."""
    return TrainingRow(
        id=row["id"],
        kind=RowKind(row["kind"]),
        image=image_from_value(row["image"]),
        prompt=row["prompt"],
        response=row["response"],
        history=_history_from_value(row.get("history")),
    )


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """One Parquet file, whole or not at all. Image bytes are stored as they are: they are compressed already."""
    write_table(path, pa.Table.from_pylist([dict(row) for row in rows], schema=schema))


def write_table(path: Path, table: pa.Table) -> None:
    """One Parquet file, whole or not at all."""
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=False, row_group_size=ROWS_PER_GROUP)


def write_questions(folder: Path, questions: Iterable[Question], *, rows_per_file: int = 1000) -> list[Path]:
    """Question shards ``part-00000.parquet`` and on, in order; the folder is made."""
    return write_shards(folder, (question_to_row(q) for q in questions), QUESTION_SCHEMA, rows_per_file=rows_per_file)


def write_training(folder: Path, rows: Iterable[TrainingRow], *, rows_per_file: int = 2000) -> list[Path]:
    """Training shards ``part-00000.parquet`` and on, in order; the folder is made."""
    return write_shards(folder, (training_to_row(r) for r in rows), TRAINING_SCHEMA, rows_per_file=rows_per_file)


def write_shards(
    folder: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema, *, rows_per_file: int
) -> list[Path]:
    """Parquet files of at most ``rows_per_file`` rows each, in order; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    held: list[Mapping[str, Any]] = []
    for row in rows:
        held.append(row)
        if len(held) == rows_per_file:
            paths.append(_write_part(folder, len(paths), held, schema))
            held = []
    if held:
        paths.append(_write_part(folder, len(paths), held, schema))
    return paths


def parquet_files(path: Path | str) -> list[Path]:
    """The Parquet files of a folder by name, or the one file; raises InputError when there is none."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.exists():
        raise InputError(f"{path}: does not exist; give a Parquet file or a folder of them")
    files = sorted(path.glob("[!._]*.parquet"))
    if not files:
        raise InputError(f"{path}: no *.parquet file in it")
    return files


def read_rows(path: Path | str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a file or folder as plain values, in order, a batch in memory at a time."""
    for file in parquet_files(path):
        for batch in open_parquet(file).iter_batches(batch_size=256, columns=list(columns) if columns else None):
            yield from batch.to_pylist()


def open_parquet(file: Path) -> pq.ParquetFile:
    """Raises InputError naming the file when it is no Parquet file."""
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: is no readable Parquet file: {error}") from error


def read_questions(path: Path | str) -> Iterator[Question]:
    """The questions of a file or folder, in order."""
    return (question_from_row(row) for row in read_rows(path))


def read_training(path: Path | str) -> Iterator[TrainingRow]:
    """The training rows of a file or folder, in order."""
    return (training_from_row(row) for row in read_rows(path))


def _write_part(folder: Path, number: int, rows: list[Mapping[str, Any]], schema: pa.Schema) -> Path:
    path = folder / f"part-{number:05d}.parquet"
    write_rows(path, rows, schema)
    return path


def _history_to_value(history: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"question": turn.question, "answer": turn.answer} for turn in history]


def _history_from_value(value: Sequence[Mapping[str, Any]] | None) -> tuple[Turn, ...]:
    return tuple(Turn(question=turn["question"], answer=turn["answer"]) for turn in value or ())


def _meta(value: Any) -> dict[str, str]:
    if not value:
        return {}
    raw = json.loads(value) if isinstance(value, str) else dict(value)
    return {str(key): str(item) for key, item in raw.items()}
