"""A-OKVQA in its own layout: ``aokvqa_v1p0_{train,val,test,test_w_ans}.json``; its pictures are COCO 2017's."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.sources.base import ExpectedFile, ReadRequest, Rows, Source, SourceInfo, existing_files, first_home
from pipelines.sources.rows import (
    Asked,
    Fields,
    Gold,
    Origin,
    choice_gold,
    file_picture,
    guarded,
    make_question,
    open_choices,
)
from pipelines.sources.streams import json_items
from reasoning.records import Question

_PREFIX = "aokvqa_v1p0_"
_WITH_ANSWERS = "test_w_ans"


def _home(root: Path) -> Path | None:
    return first_home([root, root / "aokvqa", root / "aokvqa_v1p0"], lambda folder: bool(_manifests(folder)))


def _manifests(home: Path) -> list[Path]:
    """The test questions stand in two files; the one with answers is read where it is there."""
    found = existing_files(home, f"{_PREFIX}*.json")
    if any(path.stem == f"{_PREFIX}{_WITH_ANSWERS}" for path in found):
        found = [path for path in found if path.stem != f"{_PREFIX}test"]
    return found


def aokvqa_gold(row: Fields) -> Gold:
    """The options and the right one, if it is told."""
    choices = row.texts("choices")
    if row.get("correct_choice_idx") is None:
        return open_choices(choices)
    return choice_gold(choices, row.integer("correct_choice_idx"))


def aokvqa_meta(row: Fields) -> dict[str, str]:
    """The answers of people who saw no options: to look at, not to grade by, for they may name a wrong option."""
    if row.get("direct_answers") in (None, "", []):
        return {}
    return {"direct_answers": json.dumps(row.texts("direct_answers"), ensure_ascii=False)}


def _read(request: ReadRequest) -> Rows:
    coco = request.image_root or _coco(request.home)
    for file in _manifests(request.home):
        split = file.stem.removeprefix(_PREFIX).removesuffix("_w_ans")
        if request.leaves_out(split):
            continue
        origin = Origin(source=request.label or SOURCE.name, split=split, file=file.name)

        def convert(row: Fields, origin: Origin = origin) -> list[Question]:
            picture = file_picture(coco, f"{origin.split}2017/{row.integer('image_id'):012d}.jpg")
            asked = Asked(text=row.text("question"), gold=aokvqa_gold(row))
            key = row.maybe_text("question_id")
            return [make_question(origin, asked, key=key, picture=picture, meta=aokvqa_meta(row))]

        yield from guarded(origin, json_items(file), convert)


def _coco(home: Path) -> Path:
    """Where COCO's ``train2017`` and so on are; beside the questions unless another known place has them."""
    places = [home / "coco", home, home.parent / "coco"]
    return next((place for place in places if any(place.glob("*2017"))), places[0])


SOURCE = Source(
    info=SourceInfo(
        name="aokvqa",
        title="A-OKVQA",
        task="photos and world knowledge: one of four options",
        licence="Apache-2.0 (questions); COCO's terms (pictures)",
        where="https://github.com/allenai/aokvqa (aokvqa_v1p0.tar.gz); pictures: https://cocodataset.org, 2017",
        files=(
            ExpectedFile(pattern="aokvqa_v1p0_train.json", what="train questions"),
            ExpectedFile(pattern="aokvqa_v1p0_val.json", what="validation questions", is_required=False),
            ExpectedFile(pattern="aokvqa_v1p0_test*.json", what="test questions, without answers", is_required=False),
        ),
        counts={"train": 17056, "val": 1145, "test": 6702},
        paper_thousands=16.1,
        notes="pictures: image_root, or coco/ in or beside the folder, holding train2017/ and so on",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
