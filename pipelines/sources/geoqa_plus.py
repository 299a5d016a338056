"""GeoQA+ in its own layout: pickles of Chinese geometry problems, each with its figure as an array of greys."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.sources.base import ExpectedFile, ReadRequest, RowFaultError, Rows, Source, SourceInfo, existing_files
from pipelines.sources.plain_pickle import ArrayParts, load_plain_pickle
from pipelines.sources.rows import (
    Asked,
    Fields,
    Origin,
    Picture,
    bytes_picture,
    choice_gold,
    guarded,
    make_question,
)
from reasoning.errors import InputError
from reasoning.records import Question

_FOLDER = "GeoQA2.2"
_SPLITS = {
    "GeoQA-train": "train",
    "Mix-train": "train",
    "Backtrans-train": "backtrans",
    "train": "train",
    "dev": "val",
    "test": "test",
    "new-test": "new-test",
}
_MAX_PIXELS = 64_000_000


def _home(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix in (".pk", ".pkl") else None
    places = [root, root / _FOLDER, root / "data" / _FOLDER, root / "GeoQA+" / "data" / _FOLDER]
    return next((place for place in places if place.is_dir() and _manifests(place)), None)


def _manifests(home: Path) -> list[Path]:
    """The known files. Mix-train holds GeoQA-train's problems and the new ones, so it stands in for that."""
    if home.is_file():
        return [home]
    found = [path for path in existing_files(home, "*.pk") if path.stem in _SPLITS]
    names = {path.stem for path in found}
    if "Mix-train" in names:
        found = [path for path in found if path.stem not in ("GeoQA-train", "train")]
    return found


def _read(request: ReadRequest) -> Rows:
    for file in _manifests(request.home):
        split = _SPLITS.get(file.stem, "")
        if request.leaves_out(split):
            continue
        origin = Origin(source=request.label or SOURCE.name, split=split, file=file.name)

        def convert(row: Fields, origin: Origin = origin) -> list[Question]:
            picture = _figure(row.get("image"))
            asked = Asked(text=_problem(row), gold=choice_gold(_options(row), row.integer("label")))
            return [make_question(origin, asked, key=row.maybe_text("id"), picture=picture)]

        yield from guarded(origin, _problems(file), convert)


def _problems(file: Path) -> Iterator[Any]:
    found = load_plain_pickle(file)
    if not isinstance(found, list):
        raise InputError(f"{file}: holds a {type(found).__name__}, not a list of problems")
    # Each problem is let go once it is read: the figures are most of the memory.
    found.reverse()
    while found:
        yield found.pop()


def _problem(row: Fields) -> str:
    """The problem as it was written, or put together from its tokens."""
    if row.maybe_text("subject"):
        return row.text("subject")
    tokens = row.texts("token_list")
    if not tokens:
        raise RowFaultError("fields 'subject' and 'token_list' are empty")
    return "".join(tokens)


def _options(row: Fields) -> list[str]:
    """The options as they were written, or their values."""
    return row.texts("choices" if row.get("choices") else "choice_nums")


def _figure(image: Any) -> Picture:
    if not isinstance(image, ArrayParts):
        raise RowFaultError(f"field 'image' is a {type(image).__name__}, not an array")
    # Known by its pixels, not by the PNG file: that may differ with the library that writes it.
    pixels = hashlib.sha256(image.array().tobytes()).hexdigest()[:24]
    return bytes_picture(_png(image), name=f"figure {pixels}")


def _png(image: ArrayParts) -> bytes:
    """The array as a PNG file: greys, RGB or RGBA, of whole numbers to 255 or fractions to 1."""
    import numpy as np
    from PIL import Image

    values = image.array()
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    is_picture = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if not is_picture or 0 in values.shape or values.shape[0] * values.shape[1] > _MAX_PIXELS:
        raise RowFaultError(f"field 'image' is an array of shape {values.shape}, which is no picture")
    if values.dtype.kind == "f":
        values = np.clip(np.nan_to_num(values), 0, 255)
        values = values * (255.0 if values.max() <= 1 else 1.0)
    elif values.dtype.kind == "b":
        values = values.astype(np.uint8) * 255
    pixels = np.clip(values, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


SOURCE = Source(
    info=SourceInfo(
        name="geoqa_plus",
        title="GeoQA+",
        task="Chinese geometry problems with a figure: one of four options",
        licence="not stated",
        where="https://github.com/SCNU203/GeoQA-Plus (data.zip); in English: geoqa+.jsonl of "
        "https://huggingface.co/datasets/OpenGVLab/InternVL-Chat-V1-2-SFT-Data",
        files=(
            ExpectedFile(pattern="Mix-train.pk", what="train problems, GeoQA's and the new ones"),
            ExpectedFile(pattern="dev.pk", what="validation problems", is_required=False),
            ExpectedFile(pattern="*test.pk", what="test problems", is_required=False),
            ExpectedFile(pattern="Backtrans-train.pk", what="augmented train problems", is_required=False),
        ),
        counts={"train": 6027},
        paper_thousands=11.4,
        notes="pickles, read without running them; the paper's 11.4k come from the English, augmented copy",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
