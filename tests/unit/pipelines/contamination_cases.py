"""Pictures with shapes that can be told apart, copies of them, and work on shards without Ray."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from PIL import Image, ImageDraw

from pipelines.sources.parquet import QuestionShard

LONG = (
    "A ladder of ten metres leans on a wall and its foot is six metres away from that wall; how high above the ground "
    "does the upper end of the ladder touch the wall?"
)
"""A question that no template asks."""


def drawn(seed: int, *, colour: str = "steelblue") -> Image.Image:
    """A bar chart of its own for each seed."""
    chance = random.Random(seed)
    image = Image.new("RGB", (320, 240), "white")
    draw = ImageDraw.Draw(image)
    draw.line((20, 10, 20, 220, 310, 220), fill="black", width=2)
    for bar in range(6):
        draw.rectangle((35 + 45 * bar, 220 - chance.randint(15, 200), 60 + 45 * bar, 220), fill=colour)
    return image


def encoded(image: Image.Image, form: str = "PNG", **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def copy_of(seed: int) -> bytes:
    """The chart as a smaller JPEG."""
    return encoded(drawn(seed).resize((220, 165)), "JPEG", quality=60)


def in_this_process(
    work: Callable[[QuestionShard], pa.Table], shards: Sequence[QuestionShard], _address: str | None
) -> Iterator[pa.Table]:
    """What ``map_shards`` does, in the reverse order."""
    return (work(shard) for shard in reversed(shards))
