"""DocVQA (single page) in its own layout: ``{train,val}_v1.0_withQT.json``, ``test_v1.0.json`` and the scans."""

from __future__ import annotations

from pathlib import Path

from pipelines.sources.base import ExpectedFile, ReadRequest, Rows, Source, SourceInfo, existing_files, first_home
from pipelines.sources.rows import Asked, Fields, Gold, Origin, Picture, file_picture, guarded, make_question, text_gold
from pipelines.sources.streams import json_items
from reasoning.records import Question

_PATTERNS = tuple(f"{split}_v1.0*.json" for split in ("train", "val", "test"))


def _home(root: Path) -> Path | None:
    return first_home([root, root / "docvqa", root / "spdocvqa_qas"], lambda folder: bool(_manifests(folder)))


def _manifests(home: Path) -> list[Path]:
    """A split has two releases; the one with question types is read where both are there."""
    found = existing_files(home, *_PATTERNS)
    newer = {path.name.split("_")[0] for path in found if "withQT" in path.name}
    return [path for path in found if "withQT" in path.name or path.name.split("_")[0] not in newer]


def docvqa_gold(row: Fields) -> Gold:
    """Every accepted answer; the first is the standard answer."""
    return text_gold(row.texts("answers"), is_open=True) if row.get("answers") is not None else Gold()


def _read(request: ReadRequest) -> Rows:
    for file in _manifests(request.home):
        split = file.name.split("_")[0]
        if request.leaves_out(split):
            continue
        origin = Origin(source=request.label or SOURCE.name, split=split, file=file.name)

        def convert(row: Fields, origin: Origin = origin) -> list[Question]:
            picture = _scan(request.image_root or request.home, origin.split, row.text("image"))
            asked = Asked(text=row.text("question"), gold=docvqa_gold(row))
            return [make_question(origin, asked, key=row.maybe_text("questionId"), picture=picture)]

        yield from guarded(origin, json_items(file, "data.item"), convert)


def _scan(root: Path, split: str, name: str) -> Picture:
    """The scan in the first place that has it; the name stays the file's own, wherever the scan lies."""
    pictures = [
        file_picture(root, name),
        file_picture(root / split, name),
        file_picture(root / "spdocvqa_images", Path(name).name),
        file_picture(root.parent / "spdocvqa_images", Path(name).name),
    ]
    found = next((p for p in pictures if Path(p.ref.uri or "").is_file()), pictures[0])
    return Picture(name=name, ref=found.ref)


SOURCE = Source(
    info=SourceInfo(
        name="docvqa",
        title="DocVQA (single page)",
        task="scanned pages: short answers, several accepted",
        licence="terms of the RRC challenge",
        where="https://rrc.cvc.uab.es/?ch=17 (Task 1; registration)",
        files=(
            ExpectedFile(pattern="train_v1.0*.json", what="train questions"),
            ExpectedFile(pattern="val_v1.0*.json", what="validation questions", is_required=False),
            ExpectedFile(pattern="test_v1.0*.json", what="test questions, without answers", is_required=False),
        ),
        counts={"train": 39463, "val": 5349, "test": 5188},
        paper_thousands=4.0,
        notes="scans: documents/, {split}/documents/ or spdocvqa_images/",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
