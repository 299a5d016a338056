"""easy-VQA as its PyPI package holds it: ``data/{train,test}/questions.json`` and ``images/{id}.png``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.sources.base import ExpectedFile, ReadRequest, Rows, Source, SourceInfo, existing_files, first_home
from pipelines.sources.rows import Asked, Fields, Origin, file_picture, guarded, make_question, text_gold
from pipelines.sources.streams import json_items
from reasoning.records import Question


def _home(root: Path) -> Path | None:
    return first_home([root, root / "data", root / "easy_vqa" / "data"], _is_layout)


def _is_layout(folder: Path) -> bool:
    return bool(_manifests(folder)) and (folder / "answers.txt").is_file()


def _manifests(home: Path) -> list[Path]:
    return existing_files(home, "train/questions.json", "test/questions.json")


def _read(request: ReadRequest) -> Rows:
    for file in _manifests(request.home):
        split = file.parent.name
        if request.leaves_out(split):
            continue
        origin = Origin(source=request.label or SOURCE.name, split=split, file=f"{split}/questions.json")
        pictures = (request.image_root or request.home) / split / "images"

        def convert(row: Fields, origin: Origin = origin, pictures: Path = pictures) -> list[Question]:
            asked = Asked(text=row.text("question"), gold=text_gold([row.text("answer")]))
            return [make_question(origin, asked, picture=file_picture(pictures, f"{row.integer('image')}.png"))]

        yield from guarded(origin, _named(file), convert)


def _named(file: Path) -> Iterator[Any]:
    """A row is a list of three: question, answer, picture."""
    for row in json_items(file):
        is_whole = isinstance(row, list) and len(row) == 3
        yield {"question": row[0], "answer": row[1], "image": row[2]} if is_whole else row


SOURCE = Source(
    info=SourceInfo(
        name="easy_vqa",
        title="easy-VQA",
        task="one drawn shape: yes or no, a shape, a colour",
        licence="MIT",
        where="pip install easy-vqa (the folder easy_vqa/data of the installed package)",
        files=(
            ExpectedFile(pattern="train/questions.json", what="train questions"),
            ExpectedFile(pattern="train/images/*.png", what="pictures"),
            ExpectedFile(pattern="test/questions.json", what="test questions", is_required=False),
            ExpectedFile(pattern="answers.txt", what="the thirteen answers"),
        ),
        counts={"train": 38575, "test": 9673},
        notes="not among the paper's ten; small and real",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
