"""PISC in its own layout: ``relationship.json`` labels pairs of people; the questions are ours.

A question asks which of the six relations a pair has. Which pair is meant is clear where a picture
has one labelled pair; other pictures are left out unless ``every_pair`` is set, and then the pair is
told by its boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.sources.base import (
    ExpectedFile,
    ReadRequest,
    RowFaultError,
    Rows,
    Skipped,
    Source,
    SourceInfo,
    first_home,
)
from pipelines.sources.rows import Asked, Fields, Origin, choice_gold, file_picture, guarded, make_question
from pipelines.sources.streams import json_entries, json_items, small_json
from reasoning.records import Question

RELATIONS = ("friends", "family", "a couple", "professional", "commercial", "no relation")
_LABELS = "relationship.json"
_BOXES = "annotation_image_info.json"
_LISTS = "relationship_split/relation_{}idx.json"
_SPLITS = ("train", "val", "test")

Box = tuple[float, float, float, float]


def _home(root: Path) -> Path | None:
    return first_home([root, root / "PISC", root / "pisc"], _is_layout)


def _is_layout(folder: Path) -> bool:
    return (folder / _LABELS).is_file() and (folder / _BOXES).is_file()


def _manifests(home: Path) -> list[Path]:
    names = (_BOXES, _LABELS, *(_LISTS.format(split) for split in _SPLITS))
    return [home / name for name in names if (home / name).is_file()]


def _read(request: ReadRequest) -> Rows:
    splits = _splits(request.home)
    boxes = {str(row.get("id")): row for row in json_items(request.home / _BOXES) if isinstance(row, dict)}
    source = request.label or SOURCE.name

    def convert(row: Fields) -> list[Question | Skipped]:
        key = row.text("id")
        split = splits.get(key, "")
        if request.leaves_out(split):
            return []
        pairs = row.get("pairs")
        if not isinstance(pairs, dict) or not pairs:
            raise RowFaultError(f"picture {key} has no labelled pair")
        if len(pairs) > 1 and not request.every_pair:
            return [Skipped(cause="several labelled pairs in one picture")]
        origin = Origin(source=source, split=split, file=_LABELS)
        return [_question(origin, request, key, pair, label, boxes.get(key)) for pair, label in pairs.items()]

    origin = Origin(source=source, split="", file=_LABELS)
    yield from guarded(origin, _pictures(request), convert)


def _pictures(request: ReadRequest) -> Iterator[dict[str, Any]]:
    """A row for each picture, or, with ``every_pair``, one for each pair: a bad label costs its own pair alone."""
    for key, pairs in json_entries(request.home / _LABELS):
        if request.every_pair and isinstance(pairs, dict) and pairs:
            yield from ({"id": key, "pairs": {pair: label}} for pair, label in pairs.items())
        else:
            yield {"id": key, "pairs": pairs}


def _question(origin: Origin, request: ReadRequest, key: str, pair: str, label: Any, info: Any) -> Question:
    number = Fields({"relation": label}).integer("relation")
    if not 1 <= number <= len(RELATIONS):
        raise RowFaultError(f"picture {key}, pair {pair!r}: relation {number} is none of 1 to {len(RELATIONS)}")
    if not key.isdecimal():
        raise RowFaultError(f"picture {key!r} has no number for a name")
    name = f"{int(key):05d}.jpg"
    picture = file_picture((request.image_root or request.home) / "image", name)
    asked = Asked(text=pair_question(pair, info), gold=choice_gold(RELATIONS, number - 1))
    return make_question(origin, asked, key=f"{key} {pair}", picture=picture)


def pair_question(pair: str, info: Any) -> str:
    """Ask for the relation of a pair (``"1 2"``, people counted from one), told apart as far as the picture needs it.

    Raises RowFaultError when the pair is of people that have no box.
    """
    if not isinstance(info, dict) or not isinstance(info.get("bbox"), list):
        raise RowFaultError(f"there are no boxes for the pair {pair!r} in {_BOXES}")
    boxes = info["bbox"]
    first, second = (_box(pair, number, boxes) for number in _people(pair))
    if len(boxes) == 2:
        return "What is the relationship between the two people in this picture?"
    size = f"{_number(info.get('imgW'))} × {_number(info.get('imgH'))}"
    return (
        "What is the relationship between these two people? "
        f"One is in the box {_spelled(first)}, the other in the box {_spelled(second)}; "
        f"a box is left, top, right, bottom in pixels of this {size} picture."
    )


def _people(pair: str) -> tuple[int, int]:
    parts = pair.split()
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise RowFaultError(f"the pair {pair!r} is not two numbers")
    return int(parts[0]), int(parts[1])


def _box(pair: str, number: int, boxes: list[Any]) -> Box:
    if not 1 <= number <= len(boxes):
        raise RowFaultError(f"the pair {pair!r} names person {number}, and there are {len(boxes)} boxes")
    box = boxes[number - 1]
    if not isinstance(box, list) or len(box) != 4:
        raise RowFaultError(f"the box of person {number} is {box!r}, not four numbers")
    left, top, right, bottom = (_number(edge) for edge in box)
    return left, top, right, bottom


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowFaultError(f"{value!r} in {_BOXES} is no number")
    return int(value) if float(value).is_integer() else value


def _spelled(box: Box) -> str:
    return f"({', '.join(str(edge) for edge in box)})"


def _splits(home: Path) -> dict[str, str]:
    """The split of each picture, by the official lists; pictures in none have none."""
    found: dict[str, str] = {}
    for split in _SPLITS:
        file = home / _LISTS.format(split)
        if file.is_file():
            found.update(dict.fromkeys(map(str, small_json(file)), split))
    return found


SOURCE = Source(
    info=SourceInfo(
        name="pisc",
        title="PISC",
        task="photos of people: one of six social relations, asked in our words",
        licence="not stated",
        where="https://zenodo.org/record/1059155 (images-00..03: cat images-* | tar xz)",
        files=(
            ExpectedFile(pattern="relationship.json", what="relations of pairs"),
            ExpectedFile(pattern="annotation_image_info.json", what="boxes of people"),
            ExpectedFile(pattern="image/*.jpg", what="pictures"),
            ExpectedFile(pattern="relationship_split/relation_*idx.json", what="splits", is_required=False),
        ),
        paper_thousands=1.0,
        notes="23,311 pictures, 79,244 pairs; only pictures with one labelled pair unless every_pair is set",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
