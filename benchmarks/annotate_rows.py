"""Questions with real pictures, in any number, and the reply that a teacher gives to all of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image

from reasoning.records import AnswerType, ImageRef, Question

SIDES = (64, 128, 256, 384, 512)
_PICTURES = 250
ANSWER = "4"
REPLY = (
    "<SUMMARY>I will look at the picture from left to right, find every shape that stands by itself, count them and "
    "compare the count with what is asked, so that nothing is counted twice and nothing is left out.</SUMMARY>\n"
    "<CAPTION>The picture shows a soft ground of several colours that run into one another. In front of it there are "
    "four shapes: two larger ones in the upper half, one of them close to the edge, and two smaller ones below, "
    "which do not touch. Nothing is written in it.</CAPTION>\n"
    "<REASONING>In the upper half there is one shape on the left and one on the right, which makes two. In the lower "
    "half there are two more, a little apart from one another, and neither of them is a part of those above. Two and "
    "two are four. The stains of colour behind them have no clear outline and are no shapes.</REASONING>\n"
    f"<CONCLUSION>{ANSWER}</CONCLUSION>"
)


def questions(count: int, *, sides: tuple[int, ...] = SIDES) -> Iterator[Question]:
    """``count`` questions, no two alike, with pictures of these sides in turn, some of the smaller ones PNG."""
    for number in range(count):
        place = number % _PICTURES
        data, media_type = picture(sides[place % len(sides)], place)
        yield Question(
            id=f"row-{number:07d}",
            question=f"How many shapes are in the picture? (sheet {number})",
            image=ImageRef(data=data, media_type=media_type),
            source="made up",
            answer=ANSWER,
            answer_type=AnswerType.NUMBER,
        )


@cache
def picture(side: int, seed: int) -> tuple[bytes, str]:
    """Soft colours under a grain, as in photographs: what JPEG encoders work at."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    grain = random.normal(0, 6, (side, side, 3))
    pixels = np.clip(np.asarray(coarse, dtype=np.float64) + grain, 0, 255).astype(np.uint8)
    form = "PNG" if seed // len(SIDES) % 5 == 4 and side <= 256 else "JPEG"
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue(), f"image/{form.lower()}"
