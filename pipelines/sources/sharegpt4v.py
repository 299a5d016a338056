"""ShareGPT4V in its own layout: three LLaVA-style JSON lists, and pictures of many collections below ``data/``."""

from __future__ import annotations

from pathlib import Path

from pipelines.sources.base import ExpectedFile, ReadRequest, Rows, Source, SourceInfo, first_home
from pipelines.sources.llava import llava_rows
from pipelines.sources.rows import Origin
from pipelines.sources.streams import json_items

_FILES = {
    "sharegpt4v_instruct_gpt4-vision_cap100k.json": "cap100k",
    "share-captioner_coco_lcs_sam_1246k_1107.json": "captioner1246k",
    "sharegpt4v_mix665k_cap23k_coco-ap9k_lcs3k_sam9k_div2k.json": "mix665k",
}


def _home(root: Path) -> Path | None:
    return first_home([root, root / "ShareGPT4V"], lambda folder: bool(_manifests(folder)))


def _manifests(home: Path) -> list[Path]:
    return sorted(home / name for name in _FILES if (home / name).is_file())


def _read(request: ReadRequest) -> Rows:
    beside = request.home / "data"
    pictures = request.image_root or (beside if beside.is_dir() else request.home)
    for file in _manifests(request.home):
        split = _FILES[file.name]
        if not request.leaves_out(split):
            origin = Origin(source=request.label or SOURCE.name, split=split, file=file.name)
            yield from llava_rows(origin, json_items(file), pictures)


SOURCE = Source(
    info=SourceInfo(
        name="sharegpt4v",
        title="ShareGPT4V",
        task="photos: descriptions and conversations",
        licence="CC BY-NC 4.0",
        where="https://huggingface.co/datasets/Lin-Chen/ShareGPT4V; pictures: see its README",
        files=(
            ExpectedFile(pattern="sharegpt4v_mix665k*.json", what="split mix665k"),
            ExpectedFile(pattern="sharegpt4v_instruct*cap100k.json", what="split cap100k", is_required=False),
            ExpectedFile(pattern="share-captioner*.json", what="split captioner1246k", is_required=False),
            ExpectedFile(pattern="data/*/", what="pictures (coco, sam, gqa …)"),
        ),
        counts={"cap100k": 102025, "mix665k": 665058},
        counted="conversations",
        paper_thousands=31.3,
        notes="40,688 rows of mix665k have no picture (text_only: false leaves those out)",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
