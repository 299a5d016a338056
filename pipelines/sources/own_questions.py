"""Question Parquet of our own, as ``stagebeam sources prepare`` writes it: rows as they are, ids included."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipelines.schemas import open_parquet, read_questions
from pipelines.sources.base import ExpectedFile, ReadRequest, Rows, Source, SourceInfo, existing_files
from reasoning.errors import InputError


def _home(root: Path) -> Path | None:
    files = _manifests(root) if root.exists() else []
    return root if files and _is_ours(files[0]) else None


def _manifests(home: Path) -> list[Path]:
    return [home] if home.is_file() else existing_files(home, "[!._]*.parquet")


def _is_ours(file: Path) -> bool:
    """Texts ``id`` and ``question``, and a picture, if any, that may be a URI: no other layout has these."""
    if file.suffix != ".parquet":
        return False
    try:
        schema = open_parquet(file).schema_arrow
    except InputError:
        return False
    kinds = dict(zip(schema.names, schema.types, strict=True))
    has_texts = all(name in kinds and _is_text(kinds[name]) for name in ("id", "question"))
    image = kinds.get("image")
    has_uri = image is None or (pa.types.is_struct(image) and image.get_field_index("uri") >= 0)
    return has_texts and has_uri


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _read(request: ReadRequest) -> Rows:
    for file in _manifests(request.home):
        for question in read_questions(file):
            if not request.leaves_out(question.split):
                yield question


SOURCE = Source(
    info=SourceInfo(
        name="questions",
        title="Question Parquet of our own",
        task="whatever the rows hold",
        licence="as the data",
        where="written by stagebeam sources prepare",
        files=(ExpectedFile(pattern="*.parquet", what="columns id, question and those of docs/sources.md"),),
        notes="stagebeam annotate reads it as it is",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
