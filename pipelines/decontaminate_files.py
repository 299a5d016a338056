"""Benchmarks as people have them: questions and pictures of a file, and nothing else of it.

More forgiving than the sources: what has no answer, several pictures or odd options is still a
question that must not be trained on. VLMEvalKit's TSV, Parquet with picture columns and JSON lines
are read here; whatever else there is by ``pipelines.sources``.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pipelines.schemas import image_from_value, parquet_files, read_rows
from pipelines.sources.base import FAULT, ReadRequest, Skipped
from pipelines.sources.catalogue import choose_source
from reasoning.errors import InputError
from reasoning.records import ImageRef

_QUESTION_NAMES = ("question", "query", "problem", "prompt", "text")
_INDEX_NAMES = ("index", "id", "pid", "question_id", "questionId", "idx")
_IMAGE_NAMES = ("image", "images", "decoded_image", "img", "image_path", "image_url")
_LONGEST_INDEX = 64
"""A TSV cell of at most so many letters is no picture but the index of the row that has it."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """A question and its pictures."""

    row: str
    """The row's index or id, or its number in the file."""
    text: str
    images: tuple[ImageRef, ...] = ()
    shared_with: str | None = None
    """The row whose pictures these are."""
    fault: str = ""
    """Why pictures could not be read; the question counts all the same."""


def read_benchmark(path: Path) -> Iterator[BenchmarkRow]:
    """The rows of a benchmark file or folder, in order.

    Raises InputError when it is missing, in no known layout, or has no column for the question.
    """
    if not path.exists():
        raise InputError(f"{path}: does not exist; give a benchmark's file (tsv, parquet, jsonl) or folder")
    if path.suffix == ".tsv":
        return _tsv(path)
    if path.suffix == ".parquet" or (path.is_dir() and any(path.glob("[!._]*.parquet"))):
        return _parquet(path)
    if path.suffix in (".jsonl", ".ndjson"):
        rows = _json_lines(path)
        first = next(rows, None)
        if first is not None and "conversations" not in first and "messages" not in first:
            return _named(chain([first], rows), path)
    return _source(path)


def _tsv(path: Path) -> Iterator[BenchmarkRow]:
    csv.field_size_limit(sys.maxsize)
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        missing = {"index", "question"} - set(rows.fieldnames or ())
        if missing:
            raise InputError(f"{path}: has no column {min(missing)!r}; a benchmark's TSV has index, image, question")
        try:
            for row in rows:
                yield _tsv_row(row, path.parent)
        except csv.Error as error:
            raise InputError(f"{path}: is no readable TSV, line {rows.line_num}: {error}") from error


def _tsv_row(row: Mapping[str, Any], folder: Path) -> BenchmarkRow:
    index, text = str(row["index"] or "").strip(), str(row["question"] or "")
    cell = (row.get("image") or "").strip()
    if not cell:
        path = (row.get("image_path") or "").strip()
        return BenchmarkRow(row=index, text=text, images=(_at(folder, path),) if path else ())
    if len(cell) <= _LONGEST_INDEX:
        return BenchmarkRow(row=index, text=text, shared_with=cell)
    try:
        cells = ast.literal_eval(cell) if cell.startswith("[") else [cell]
        images = tuple(ImageRef(data=base64.b64decode(str(one), validate=True)) for one in cells)
    except (binascii.Error, ValueError, SyntaxError) as error:
        return BenchmarkRow(row=index, text=text, fault=f"column image is no base64: {error}")
    return BenchmarkRow(row=index, text=text, images=images)


def _parquet(path: Path) -> Iterator[BenchmarkRow]:
    files = parquet_files(path)
    number = 0
    for file in files:
        for row in read_rows(file):
            if number == 0:
                _question_name(row, file)
            yield _plain_row(row, number, file)
            number += 1


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}: line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {number} is no JSON object")
            yield row


def _named(rows: Iterator[dict[str, Any]], path: Path) -> Iterator[BenchmarkRow]:
    for number, row in enumerate(rows):
        if number == 0:
            _question_name(row, path)
        yield _plain_row(row, number, path)


def _question_name(row: Mapping[str, Any], path: Path) -> str:
    found = next((name for name in _QUESTION_NAMES if name in row), None)
    if found is None:
        names = ", ".join(sorted(row)) or "none"
        raise InputError(f"{path}: has no column for the question ({', '.join(_QUESTION_NAMES)}); it has {names}")
    return found


def _plain_row(row: Mapping[str, Any], number: int, path: Path) -> BenchmarkRow:
    index = next((str(row[name]) for name in _INDEX_NAMES if row.get(name) not in (None, "")), str(number))
    text = next((str(row[name]) for name in _QUESTION_NAMES if row.get(name)), "")
    try:
        return BenchmarkRow(row=index, text=text, images=tuple(_images(row, path.parent)))
    except (binascii.Error, ValueError) as error:
        return BenchmarkRow(row=index, text=text, fault=f"the picture cannot be read: {error}")


def _images(row: Mapping[str, Any], folder: Path) -> Iterator[ImageRef]:
    """Of the first column that has any; beside it those named ``image_1``, ``image_2`` and so on."""
    first = next((name for name in _IMAGE_NAMES if row.get(name)), None)
    names = [first] if first else []
    names += [name for name in sorted(row) if name.startswith("image_") and name[6:].isdigit() and row[name]]
    for name in names:
        cells = row[name] if isinstance(row[name], list) else [row[name]]
        for cell in cells:
            found = _image(cell, folder)
            if found is not None:
                yield found


def _image(cell: Any, folder: Path) -> ImageRef | None:
    match cell:
        case None | "":
            return None
        case bytes():
            return ImageRef(data=cell)
        case {"bytes": bytes(data)}:
            return ImageRef(data=data)
        case {"path": str(path)} if path:
            return _at(folder, path)
        case {"uri": str(uri)} if uri:
            return image_from_value({"uri": uri})
        case str() if cell.startswith("data:"):
            return ImageRef(data=base64.b64decode(cell.partition(",")[2], validate=True))
        case str() if len(cell) > 1024:
            return ImageRef(data=base64.b64decode(cell, validate=True))
        case str():
            return _at(folder, cell)
        case _:
            raise ValueError(f"a {type(cell).__name__} is no picture")


def _at(folder: Path, name: str) -> ImageRef:
    return ImageRef(uri=name if "://" in name else str(folder / name))


def _source(path: Path) -> Iterator[BenchmarkRow]:
    source, home = choose_source(path)
    for row in source.read(ReadRequest(home=home)):
        if not isinstance(row, Skipped):
            images = () if row.image is None else (row.image,)
            yield BenchmarkRow(row=row.id, text=row.question, images=images, fault=row.meta.get(FAULT, ""))
