"""What the tests of the engine share: how engines are made, and pictures to show them."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image

from actors.engines.transformers_engine import TransformersEngine
from reasoning.records import ImageRef

EngineFactory = Callable[..., TransformersEngine]


def picture(colour: str = "red", size: tuple[int, int] = (40, 40)) -> ImageRef:
    """A plain square of one colour with a black corner."""
    image = Image.new("RGB", size, colour)
    image.paste("black", (0, 0, size[0] // 3, size[1] // 2))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return ImageRef(data=stream.getvalue())
