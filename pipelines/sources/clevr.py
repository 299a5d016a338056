"""CLEVR v1.0 in its own layout: ``questions/CLEVR_{split}_questions.json`` and ``images/{split}/``."""

from __future__ import annotations

from pathlib import Path

from pipelines.sources.base import ExpectedFile, ReadRequest, Rows, Source, SourceInfo, existing_files, first_home
from pipelines.sources.rows import (
    Asked,
    Fields,
    Gold,
    Origin,
    answer_text,
    file_picture,
    guarded,
    make_question,
    text_gold,
)
from pipelines.sources.streams import json_items
from reasoning.records import Question


def _home(root: Path) -> Path | None:
    return first_home([root, root / "CLEVR_v1.0"], lambda folder: bool(_manifests(folder)))


def _manifests(home: Path) -> list[Path]:
    return existing_files(home, "questions/CLEVR_*_questions.json")


def _read(request: ReadRequest) -> Rows:
    for file in _manifests(request.home):
        split = file.stem.split("_")[1]
        if request.leaves_out(split):
            continue
        pictures = (request.image_root or request.home) / "images" / split
        yield from clevr_rows(request, file, SOURCE.name, split, pictures, kind="question_family_index")


def clevr_rows(request: ReadRequest, file: Path, source: str, split: str, pictures: Path, *, kind: str) -> Rows:
    """The questions of a file in CLEVR's form; the field ``kind`` says which family a question is of."""
    origin = Origin(source=request.label or source, split=split, file=file.relative_to(request.home).as_posix())

    def convert(row: Fields) -> list[Question]:
        # The release spells every answer as text; the generator writes true, false and whole numbers.
        answer = row.get("answer")
        gold = Gold() if answer is None else text_gold([answer_text(answer)])
        family = row.maybe_text(kind).removesuffix(".json")
        return [
            make_question(
                origin,
                Asked(text=row.text("question"), gold=gold),
                key=row.maybe_text("question_index"),
                picture=file_picture(pictures, row.text("image_filename")),
                meta={"family": family} if family else {},
            )
        ]

    return guarded(origin, json_items(file, "questions.item"), convert)


SOURCE = Source(
    info=SourceInfo(
        name="clevr",
        title="CLEVR v1.0",
        task="drawn scenes: yes or no, counts, attributes",
        licence="CC BY 4.0",
        where="https://dl.fbaipublicfiles.com/clevr/CLEVR_v1.0.zip",
        files=(
            ExpectedFile(pattern="questions/CLEVR_train_questions.json", what="train questions"),
            ExpectedFile(pattern="questions/CLEVR_val_questions.json", what="validation questions", is_required=False),
            ExpectedFile(pattern="questions/CLEVR_test_questions.json", what="test, no answers", is_required=False),
            ExpectedFile(pattern="images/train/*.png", what="pictures"),
        ),
        counts={"train": 699989, "val": 149991, "test": 149988},
        paper_thousands=0.5,
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
