"""CLEVR-Math in its own layout: ``clevr-math-{split}.json`` (and ``-multihop``); its pictures are CLEVR's."""

from __future__ import annotations

from pathlib import Path

from pipelines.sources.base import ExpectedFile, ReadRequest, Rows, Source, SourceInfo, existing_files, first_home
from pipelines.sources.clevr import clevr_rows

_SPLITS = ("train", "val", "test")


def _home(root: Path) -> Path | None:
    return first_home([root, root / "clevr-math", root / "data"], lambda folder: bool(_manifests(folder)))


def _manifests(home: Path) -> list[Path]:
    return existing_files(home, "clevr-math-*.json", "clevr-math*/clevr-math-*.json")


def _read(request: ReadRequest) -> Rows:
    for file in _manifests(request.home):
        split = next((name for name in _SPLITS if name in file.stem.split("-")), "")
        if not request.leaves_out(split):
            pictures = _pictures(request) / split
            yield from clevr_rows(request, file, SOURCE.name, split, pictures, kind="template_filename")


def _pictures(request: ReadRequest) -> Path:
    """The folder of CLEVR's pictures: that of ``image_root``, or in or beside the questions' folder."""
    home = request.home
    roots = [request.image_root] if request.image_root else [home, home / "CLEVR_v1.0", home.parent / "CLEVR_v1.0"]
    places = [root / "images" for root in roots]
    return next((place for place in places if place.is_dir()), places[0])


SOURCE = Source(
    info=SourceInfo(
        name="clevr_math",
        title="CLEVR-Math",
        task="drawn scenes: adding and taking away, a number",
        licence="CC BY 4.0 by its card, CC BY-SA 4.0 by its loader",
        where="https://github.com/dali-does/clevr-math (data/clevr-math.zip); pictures: CLEVR v1.0",
        files=(
            ExpectedFile(pattern="**/clevr-math-train.json", what="train questions"),
            ExpectedFile(pattern="**/clevr-math-*.json", what="further splits and multihop", is_required=False),
        ),
        paper_thousands=0.5,
        notes="pictures: image_root (CLEVR's folder), or images/ or CLEVR_v1.0/ in or beside the folder",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
