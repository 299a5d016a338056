"""ChartQA in its own layout: ``{train,val,test}/{split}_{human,augmented}.json`` and ``png/``."""

from __future__ import annotations

from pathlib import Path

from pipelines.sources.base import ExpectedFile, ReadRequest, Rows, Source, SourceInfo, existing_files, first_home
from pipelines.sources.rows import Asked, Fields, Origin, answer_text, file_picture, guarded, make_question, text_gold
from pipelines.sources.streams import json_items
from reasoning.records import Question

_FOLDER = "ChartQA Dataset"
_PATTERNS = tuple(f"{split}/{split}_*.json" for split in ("train", "val", "test"))


def _home(root: Path) -> Path | None:
    return first_home([root, root / _FOLDER, root / "ChartQA" / _FOLDER], lambda folder: bool(_manifests(folder)))


def _manifests(home: Path) -> list[Path]:
    found = existing_files(home, *_PATTERNS)
    return [path for path in found if path.stem.endswith(("_human", "_augmented"))]


def _read(request: ReadRequest) -> Rows:
    for file in _manifests(request.home):
        split, _, written_by = file.stem.partition("_")
        if request.leaves_out(split):
            continue
        name = request.label or SOURCE.name
        origin = Origin(source=name, split=split, file=file.relative_to(request.home).as_posix())
        pictures = (request.image_root or request.home) / split / "png"

        def convert(
            row: Fields, origin: Origin = origin, pictures: Path = pictures, by: str = written_by
        ) -> list[Question]:
            # The bars and lines are the question's own; who wrote it, a person or a model, is kept beside it.
            asked = Asked(text=row.text("query"), gold=text_gold([answer_text(row.get("label"), "label")]))
            picture = file_picture(pictures, row.text("imgname"))
            return [make_question(origin, asked, picture=picture, meta={"written_by": by})]

        yield from guarded(origin, json_items(file), convert)


SOURCE = Source(
    info=SourceInfo(
        name="chartqa",
        title="ChartQA",
        task="charts: numbers, short texts, yes or no",
        licence="GPL-3.0",
        where="https://github.com/vis-nlp/ChartQA or https://huggingface.co/datasets/ahmed-masry/ChartQA",
        files=(
            ExpectedFile(pattern="train/train_human.json", what="questions written by people"),
            ExpectedFile(pattern="train/train_augmented.json", what="questions made by a model", is_required=False),
            ExpectedFile(pattern="train/png/*.png", what="charts"),
            ExpectedFile(pattern="val/val_*.json", what="validation questions", is_required=False),
            ExpectedFile(pattern="test/test_*.json", what="test questions", is_required=False),
        ),
        counts={"train": 28299, "val": 1920, "test": 2500},
        paper_thousands=17.2,
        notes="the folder is called 'ChartQA Dataset', with a space",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
