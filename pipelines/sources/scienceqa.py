"""ScienceQA in its own layout: ``problems.json`` and ``images/{split}/{id}/image.png``. Half of it has no picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.sources.base import (
    ExpectedFile,
    ReadRequest,
    Rows,
    Skipped,
    Source,
    SourceInfo,
    first_home,
    plain_split,
)
from pipelines.sources.rows import Asked, Fields, Origin, choice_gold, file_picture, guarded, make_question
from pipelines.sources.streams import json_entries, small_json
from reasoning.errors import InputError
from reasoning.records import Question

_PROBLEMS = "problems.json"
_SPLITS = "pid_splits.json"
_KEY = "\x00key"


def _home(root: Path) -> Path | None:
    return first_home([root, root / "data" / "scienceqa", root / "scienceqa"], lambda f: (f / _PROBLEMS).is_file())


def _manifests(home: Path) -> list[Path]:
    return [path for path in (home / _PROBLEMS, home / _SPLITS) if path.is_file()]


def scienceqa_meta(row: Fields) -> dict[str, str]:
    """What a question is about and for whom."""
    kept = {name: row.maybe_text(name) for name in ("subject", "topic", "category", "skill", "grade")}
    return {name: value for name, value in kept.items() if value}


def _read(request: ReadRequest) -> Rows:
    chosen = _chosen_keys(request)
    source = request.label or SOURCE.name

    def convert(row: Fields) -> list[Question | Skipped]:
        key = str(row.get(_KEY))
        split = row.maybe_text("split")
        if key not in chosen if chosen is not None else request.leaves_out(split):
            return []
        origin = Origin(source=source, split=split, file=_PROBLEMS)
        gold = choice_gold(row.texts("choices"), row.integer("answer"))
        image = row.maybe_text("image")
        picture = file_picture(_folder(request, split), f"{key}/{image}") if image else None
        asked = Asked(text=row.text("question"), gold=gold)
        hint = row.maybe_text("hint")
        return [make_question(origin, asked, key=key, picture=picture, hint=hint, meta=scienceqa_meta(row))]

    origin = Origin(source=source, split="", file=_PROBLEMS)
    yield from guarded(origin, _problems(request.home / _PROBLEMS), convert)


def _problems(file: Path) -> Iterator[Any]:
    for key, value in json_entries(file):
        yield {**value, _KEY: key} if isinstance(value, dict) else value


def _chosen_keys(request: ReadRequest) -> frozenset[str] | None:
    """The keys of a split that only ``pid_splits.json`` knows (minitrain …); None: a row's own split counts."""
    if request.split is None or plain_split(request.split) in ("train", "val", "test"):
        return None
    file = request.home / _SPLITS
    known = small_json(file) if file.is_file() else {}
    if request.split not in known:
        raise InputError(f"{file}: has no split {request.split!r}; there are train, val, test, {', '.join(known)}")
    return frozenset(map(str, known[request.split]))


def _folder(request: ReadRequest, split: str) -> Path:
    """Where the pictures of a split are: under ``images/``, or where train.zip was unpacked."""
    root = request.image_root or request.home
    return root / split if not (root / "images").is_dir() and (root / split).is_dir() else root / "images" / split


SOURCE = Source(
    info=SourceInfo(
        name="scienceqa",
        title="ScienceQA",
        task="school science: one of two to five options, often with a hint",
        licence="CC BY-NC-SA 4.0",
        where="https://github.com/lupantech/ScienceQA (data/scienceqa; train.zip, val.zip, test.zip)",
        files=(
            ExpectedFile(pattern="problems.json", what="questions of all splits"),
            ExpectedFile(pattern="pid_splits.json", what="further splits (minitrain …)", is_required=False),
            ExpectedFile(pattern="images/*/*/image.png", what="pictures", is_required=False),
        ),
        counts={"train": 12726, "val": 4241, "test": 4241},
        paper_thousands=5.6,
        notes="about half has no picture (text_only: false leaves those out)",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
