"""A picture's size by its header, without decoding it: for estimates, never for what is sent."""

from __future__ import annotations

from actors.image_files import MAX_PIXELS, opened
from actors.images import image_bytes
from reasoning.records import ImageRef


def header_size(image: ImageRef) -> tuple[int, int]:
    """Width and height as stored. Raises ImageError where no run could use the picture, as far as a header tells."""
    with opened(image_bytes(image), image.uri or "image bytes", MAX_PIXELS) as found:
        return found.size
