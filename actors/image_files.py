"""Opening and decoding image files that may be anything: what cannot be used is an ``ImageError`` and nothing else.

Nothing here repairs a picture. What stands beside the pixels and cannot be read (a broken EXIF
block) is passed over.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlparse

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, UnidentifiedImageError

from reasoning.errors import ImageError

# Formats that decode in-process: Pillow would hand EPS to an outside program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
"""About 8000 × 8000: 190 MB once decoded."""
MAX_FILE_BYTES = 256_000_000
"""More than ``MAX_PIXELS`` take without any compression."""

# Our own limit is the one that counts. Set once: warnings.catch_warnings is not safe for threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

DECODER_ERRORS: tuple[type[Exception], ...] = (
    OSError,  # truncated data, broken streams; UnidentifiedImageError is one
    SyntaxError,  # what Pillow's plugins raise for a broken header
    ValueError,  # text chunks beyond the limit, sizes and modes that cannot be, bad UTF-8
    EOFError,  # a frame that is not there
    struct.error,  # a field that is cut off
    zlib.error,  # a compressed chunk beside the pixels
    LookupError,  # an index or a tag that a broken table does not have
    ArithmeticError,  # resolutions and scales with zero below the line, sizes beyond a machine word
    TypeError,  # a tag of another type than the format says
    AttributeError,  # a tag that is not there where the format says it is
    AssertionError,  # what a decoder took for granted
    RuntimeError,  # a mode without a converter (NotImplementedError), nesting without end (RecursionError)
    BufferError,  # a picture whose rows are not where its header says
    MemoryError,  # a header that asks for more than there is
    Warning,  # where the process makes errors of warnings
    Image.DecompressionBombError,  # a frame that is larger than the header said
)
"""What decoders have been seen to raise for bytes that are no good picture, or may by their code."""

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ROWS_AT_A_TIME = 256


def read_bytes(uri: str) -> bytes:
    """The bytes behind a path, a ``file://`` or ``data:`` URI or an object store's URI; raises ImageError."""
    parts = urlparse(uri)
    try:
        if parts.scheme == "data":
            return _data_uri(uri)
        if parts.scheme in ("", "file"):
            return _file_bytes(Path(unquote(parts.path) if parts.scheme else uri))
        from pyarrow import fs

        store, path = fs.FileSystem.from_uri(uri)
        with store.open_input_file(path) as stream:
            _check_bytes(uri, stream.size())
            return bytes(stream.read())
    except FileNotFoundError as error:
        raise ImageError(f"no image at {uri}") from error
    except (OSError, ValueError) as error:
        # ValueError is what pyarrow raises for a scheme that it does not know, and Path for a NUL in a name.
        raise ImageError(f"cannot read image {_short(uri)}: {error}") from error


@contextmanager
def opened(data: bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """An image whose header could be read and that has at most ``max_pixels``; not decoded yet.

    Inside the block, whatever Pillow raises for the file becomes an ImageError that begins with ``name``.
    """
    if not data:
        raise ImageError(f"{name}: empty, no image in it")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image, or not one of {', '.join(FORMATS)}{_what_it_is(data)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: too large ({error}); the limit is {max_pixels} pixels") from error
    except DECODER_ERRORS as error:
        raise ImageError(f"{name}: broken image header ({error})") from error
    with image:
        width, height = image.size
        if width < 1 or height < 1:
            raise ImageError(f"{name}: no pixels, {width} × {height}")
        if width * height > max_pixels:
            raise ImageError(f"{name}: too large, {width} × {height}; the limit is {max_pixels} pixels")
        try:
            yield image
        except ImageError:
            raise
        except DECODER_ERRORS as error:
            raise ImageError(f"{name}: truncated or broken image ({_short(str(error))})") from error


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 when there is none, or none that can be read."""
    try:
        found = image.getexif().get(_EXIF_ORIENTATION, 1)
    except DECODER_ERRORS:
        return 1  # Cameras and editors leave many a broken EXIF block beside good pixels.
    return found if isinstance(found, int) and found in _UPRIGHT else 1


def upright(image: Image.Image, turned: int) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    return image.transpose(_UPRIGHT[turned]) if turned in _UPRIGHT else image


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; 16-bit greys are scaled, not clipped; transparency is laid on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey_to_rgb(image)
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Pillow turns the inks of every JPEG over, as Adobe's are; those of others stand as they are.
        return ImageChops.invert(image).convert("RGB")
    if has_transparency(image):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def has_transparency(image: Image.Image) -> bool:
    """Whether a part of the image may be transparent."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def without_metadata(image: Image.Image) -> Image.Image:
    """The pixels of an RGB image and nothing else."""
    return Image.frombytes("RGB", image.size, image.tobytes())


def _grey_to_rgb(image: Image.Image) -> Image.Image:
    """In bands of rows: numbers in floating point take eight times the picture's size."""
    values: npt.NDArray[Any] = np.asarray(image)
    top = 65535.0 if values.size and values.max() > 255 else 255.0
    grey = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS_AT_A_TIME):
        band = np.nan_to_num(values[start : start + _ROWS_AT_A_TIME].astype(np.float64))
        grey[start : start + _ROWS_AT_A_TIME] = np.clip(band / top * 255.0, 0, 255).round()
    return Image.fromarray(grey).convert("RGB")


def _file_bytes(path: Path) -> bytes:
    size = path.stat().st_size
    if not path.is_file():
        # A pipe would be read for ever.
        raise ImageError(f"cannot read image {path}: it is no file")
    _check_bytes(str(path), size)
    return path.read_bytes()


def _check_bytes(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{name}: too large, {size} bytes; the limit is {MAX_FILE_BYTES}")


def _data_uri(uri: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise ImageError(f"cannot read image {_short(uri)}: a data URI needs a comma")
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote_to_bytes(body), validate=True)
    except binascii.Error as error:
        raise ImageError(f"cannot read image {_short(uri)}: no base64: {error}") from error


def _what_it_is(data: bytes) -> str:
    """What a download that went wrong often is instead."""
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "; it is an HTML page"
    if start.startswith(b"version https://git-lfs"):
        return "; it is a Git LFS pointer, the file itself was not fetched"
    if start.startswith((b"<svg", b"<?xml")):
        return "; it is XML, or an SVG drawing"
    return ""


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
