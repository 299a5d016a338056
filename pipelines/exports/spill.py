"""Accepted rows in an order of their own, however many there are, in memory for a fixed number.

The run is read once. Pictures go to files, each once; what is left of a row goes to one of several
bucket files by a hash of its key. Then bucket after bucket is read and sorted. The order depends
on the keys alone, not on how rows came to lie in shards.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from pipelines.annotations import ACCEPTED, read_annotated
from pipelines.exports.images import ImageFiles
from pipelines.schemas import QUESTION_SCHEMA, image_from_value
from reasoning.errors import ImageError
from reasoning.records import ImageRef
from reasoning.stages import STAGES

SPILL_FOLDER = ".spill"
BUCKET_ROWS = 10_000
"""Rows in memory at a time, without their pictures."""
MAX_BUCKETS = 256
"""As many files are open at a time."""
COLUMNS = (*QUESTION_SCHEMA.names, *(stage.value.lower() for stage in STAGES), "flawed_reply", "teacher")

Row = dict[str, Any]
Progress = Callable[[int, int], None]
KeepImage = Callable[[ImageRef], Any]


class Spill:
    """Rows of one run, put in order; use as a context manager, at the end its files are removed."""

    def __init__(self, folder: Path, *, rows: int, key: Callable[[Mapping[str, Any]], str]) -> None:
        """Works in ``folder/.spill``; rows with equal ``key`` come out one after the other."""
        self._folder = folder / SPILL_FOLDER
        self._key = key
        self._buckets = min(MAX_BUCKETS, max(1, -(-rows // BUCKET_ROWS)))
        self._rows = rows
        self.unusable: dict[str, str] = {}
        """Ids of rows whose picture cannot be used, with the fault; they do not come out."""

    def __enter__(self) -> Spill:
        remove_spill(self._folder.parent)
        self._folder.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        remove_spill(self._folder.parent)

    def images(self) -> ImageFiles:
        """Pictures that are needed for as long as the rows are."""
        return ImageFiles(self._folder, "images")

    def fill(self, run: str | Path, keep_image: KeepImage, on_progress: Progress | None = None) -> None:
        """Read the run's accepted rows; ``keep_image`` puts a picture away and answers its name.

        In the rows that come out, ``image`` is that name (any value of JSON), or None without picture. A
        row whose ``keep_image`` raises ImageError is kept in ``unusable`` instead.
        """
        with ExitStack() as stack:
            files = [stack.enter_context(self._open(number, "w")) for number in range(self._buckets)]
            for number, row in enumerate(read_annotated(run, ACCEPTED, COLUMNS), start=1):
                self._put(files, row, keep_image)
                if on_progress is not None and number % 256 == 0:
                    on_progress(number, self._rows)

    def rows(self) -> Iterator[Row]:
        """All rows, by bucket, the hash of their key, and their id."""
        for number in range(self._buckets):
            yield from self._bucket(number)

    def _bucket(self, number: int) -> list[Row]:
        with self._open(number, "r") as file:
            held: list[Row] = [json.loads(line) for line in file]
        held.sort(key=lambda row: (place_of(self._key(row)), self._key(row), row["id"]))
        return held

    def _put(self, files: list[IO[str]], row: Row, keep_image: KeepImage) -> None:
        ref = image_from_value(row.pop("image", None))
        try:
            row["image"] = None if ref is None else keep_image(ref)
        except ImageError as error:
            self.unusable[row["id"]] = str(error)
            return
        file = files[place_of(self._key(row)) % self._buckets]
        file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _open(self, number: int, mode: str) -> IO[str]:
        return open(self._folder / f"bucket-{number:04d}.jsonl", mode, encoding="utf-8", newline="\n")


def place_of(key: str) -> int:
    """A number below 2^64 that says where a key stands among others."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def remove_spill(folder: Path) -> None:
    """Remove what an interrupted export left in ``folder``."""
    if (folder / SPILL_FOLDER).exists():
        shutil.rmtree(folder / SPILL_FOLDER)
