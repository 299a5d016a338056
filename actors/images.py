"""Images as a model may see them: decoded, upright, RGB, and without any metadata.

What travels in an image file beside its pixels (text chunks, EXIF, colour profiles) stops here.
Every unusable file is an ``ImageError`` that names the fault; nothing here guesses or repairs.
"""

from __future__ import annotations

import io

from PIL import Image

from actors.image_files import MAX_PIXELS, opened, orientation, read_bytes, to_rgb, upright, without_metadata
from actors.image_policy import EncodedImage, ImageFormat, ImagePolicy, Reencode, encoded
from reasoning.errors import ImageError
from reasoning.records import ImageRef

__all__ = [
    "MAX_PIXELS",
    "EncodedImage",
    "ImageFormat",
    "ImagePolicy",
    "Reencode",
    "check_image",
    "encode_image",
    "image_bytes",
    "load_image",
]


def load_image(ref: ImageRef, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image as upright 8-bit RGB with empty ``info``; of an animation the first frame.

    Transparent parts are laid on white. Raises ImageError when it is missing, no image of a known
    format, truncated, or has more than ``max_pixels``.
    """
    data, name = _source(ref)
    return _decode(data, name, max_pixels)


def encode_image(ref: ImageRef, policy: ImagePolicy) -> EncodedImage:
    """The image as a teacher is shown it, under the media type that its bytes have, whatever ``ref`` claims.

    Of an animation the first frame; upright; transparent parts on white. Takes the time of a decoding
    and perhaps an encoding: call it on a thread. Raises ImageError for a file that cannot be used,
    and for one that cannot be brought within ``policy.max_bytes``.
    """
    data, name = _source(ref)
    return encoded(data, name, policy)


def check_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> str:
    """The media type of a usable image (``image/png`` …); raises ImageError as ``load_image`` does."""
    _decode(data, "image bytes", max_pixels)
    with Image.open(io.BytesIO(data)) as image:
        # Some cameras put several JPEGs behind one another; the first is one that everybody reads.
        return "image/jpeg" if image.format == "MPO" else Image.MIME[str(image.format)]


def image_bytes(ref: ImageRef) -> bytes:
    """The encoded bytes as they are, metadata included: for a teacher, never for a model. Raises ImageError."""
    return ref.data if ref.data is not None else read_bytes(ref.uri or "")


def _source(ref: ImageRef) -> tuple[bytes, str]:
    """The encoded bytes, and what to call them in an error."""
    if (ref.data is None) == (ref.uri is None):
        raise ImageError("ImageRef needs either data or uri, and not both")
    if ref.data is not None:
        return ref.data, "image bytes"
    uri = ref.uri or ""
    return read_bytes(uri), uri if len(uri) <= 200 else f"{uri[:200]}…"


def _decode(data: bytes, name: str, max_pixels: int) -> Image.Image:
    with opened(data, name, max_pixels) as image:
        image.load()
        turned = orientation(image)
        return without_metadata(upright(to_rgb(image), turned))
