"""TSV files as VLMEvalKit keeps benchmarks: a question a row, its picture as base64 or as the index of another row."""

from __future__ import annotations

import base64
import binascii
import csv
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from pipelines.sources.base import (
    ExpectedFile,
    ReadRequest,
    RowFaultError,
    Rows,
    Source,
    SourceInfo,
    existing_files,
)
from pipelines.sources.rows import (
    Asked,
    Fields,
    Gold,
    Origin,
    Picture,
    bytes_picture,
    choice_gold,
    file_picture,
    guarded,
    make_question,
    open_choices,
    text_gold,
)
from pipelines.sources.streams import binary
from reasoning.errors import InputError
from reasoning.grading import choice_letter
from reasoning.records import Question

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LONGEST_INDEX = 64
"""A cell of at most so many letters is no picture but the index of a row that has one."""
_NOTHING = ("", "nan", "none", "null")


def _home(root: Path) -> Path | None:
    if root.is_file():
        return root if _is_benchmark(root) else None
    return root if root.is_dir() and _manifests(root) else None


def _manifests(home: Path) -> list[Path]:
    return [home] if home.is_file() else [file for file in existing_files(home, "*.tsv") if _is_benchmark(file)]


def _is_benchmark(file: Path) -> bool:
    if file.suffix != ".tsv":
        return False
    with binary(file) as content:
        header = content.readline(65536).decode("utf-8", "replace").rstrip("\r\n").split("\t")
    names = {name.strip('"') for name in header}
    return {"index", "question"} <= names and bool({"image", "image_path"} & names)


def _read(request: ReadRequest) -> Rows:
    for file in _manifests(request.home):
        with ExitStack() as stack:
            table = _Table(file, stack)
            origin = Origin(source=request.label or file.stem, split="", file=file.name)
            folder = request.image_root or file.parent

            read_row = partial(_questions, request, origin, table, folder)
            yield from guarded(origin, table.rows(), read_row)


def _questions(request: ReadRequest, whole: Origin, table: _Table, folder: Path, row: Fields) -> list[Question]:
    split = row.maybe_text("split")
    if request.leaves_out(split):
        return []
    origin = replace(whole, split=split)
    meta = {name: _cell(row, name) for name in ("category", "l2-category") if _cell(row, name)}
    asked = Asked(text=row.text("question"), gold=_gold(row), meta=meta)
    picture = _picture(row, table, folder)
    return [make_question(origin, asked, key=row.text("index"), picture=picture, hint=_cell(row, "hint"))]


def _cell(row: Fields, name: str) -> str:
    """A cell's text; what pandas writes for nothing is nothing."""
    text = row.maybe_text(name)
    return "" if text.lower() in _NOTHING else text


def _gold(row: Fields) -> Gold:
    # An option may well read "None": of options only what is empty or pandas' nan is none.
    cells = {letter: row.maybe_text(letter) for letter in _LETTERS if letter in row.raw}
    options = {letter: text for letter, text in cells.items() if text.lower() not in ("", "nan")}
    answer = _cell(row, "answer")
    if not options:
        return text_gold([answer], is_open=True)
    if not answer:
        return open_choices(list(options.values()))
    letter = choice_letter(answer)
    if letter not in options:
        raise RowFaultError(f"the answer {answer!r} is the letter of no option; there are {', '.join(options)}")
    return choice_gold(list(options.values()), list(options).index(letter))


def _picture(row: Fields, table: _Table, folder: Path) -> Picture | None:
    cell = row.maybe_text("image")
    if not cell:
        path = _cell(row, "image_path")
        return file_picture(folder, path) if path else None
    if 0 < len(cell) <= _LONGEST_INDEX:
        index, cell = cell, table.image_of(cell)
        if len(cell) <= _LONGEST_INDEX:
            raise RowFaultError(f"field 'image' points to row {index!r}, which has no picture of its own")
    if cell.startswith("["):
        several = Fields({"image": cell}).texts("image")
        if len(several) != 1:
            raise RowFaultError(f"the row has {len(several)} pictures; only rows of one are read")
        cell = several[0]
    try:
        return bytes_picture(base64.b64decode(cell, validate=True))
    except (binascii.Error, ValueError) as error:
        raise RowFaultError(f"field 'image' is no base64: {error}") from error


class _Table:
    """The rows of a TSV file, and the picture of any of them, with no more than a row or two in memory."""

    def __init__(self, file: Path, stack: ExitStack) -> None:
        self._file = file
        self._stack = stack
        self._places: dict[str, int] | None = None
        self._random: IO[bytes] | None = None
        self._last = ("", "")

    def rows(self) -> Iterator[dict[str, Any]]:
        for _, row in self._read():
            yield row

    def image_of(self, index: str) -> str:
        """The cell ``image`` of the row with that index. Raises RowFaultError when there is none."""
        if self._last[0] == index:
            return self._last[1]
        if self._places is None:
            self._places = {str(row.get("index", "")).strip(): place for place, row in self._read()}
        if index not in self._places:
            raise RowFaultError(f"field 'image' points to row {index!r}, which there is not")
        if self._random is None:
            self._random = self._stack.enter_context(binary(self._file))
        self._random.seek(self._places[index])
        cells = next(csv.reader(self._lines(self._random), delimiter="\t"))
        named = dict(zip(self._header(), cells, strict=False))
        self._last = (index, named.get("image", "").strip())
        return self._last[1]

    def _header(self) -> list[str]:
        with binary(self._file) as content:
            return next(csv.reader(self._lines(content), delimiter="\t"), [])

    def _read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row and where in the file it begins."""
        csv.field_size_limit(sys.maxsize)
        with binary(self._file) as content:
            # Strict: a quote that nothing closes would swallow the rest of the file as one cell.
            reader = csv.reader(self._lines(content), delimiter="\t", strict=True)
            try:
                names = next(reader, [])
                place = content.tell()
                for cells in reader:
                    if cells:
                        yield place, dict(zip(names, cells, strict=False))
                    place = content.tell()
            except csv.Error as error:
                raise InputError(f"{self._file}: is no readable TSV, line {reader.line_num}: {error}") from error

    @staticmethod
    def _lines(content: IO[bytes]) -> Iterator[str]:
        """The lines, read one by one, so that the file stands where the next begins."""
        while line := content.readline():
            yield line.decode("utf-8", "replace")


SOURCE = Source(
    info=SourceInfo(
        name="vlmeval_tsv",
        title="VLMEvalKit TSV",
        task="benchmarks: options or short answers",
        licence="as the benchmark; most forbid training on them",
        where="https://github.com/open-compass/VLMEvalKit (files of LMUData)",
        files=(ExpectedFile(pattern="*.tsv", what="rows with index, image, question, A, B, …, answer"),),
        notes="to measure or to decontaminate, not to train on",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
