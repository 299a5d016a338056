"""Images as a model may see them: decoded, upright, RGB, and without any metadata.

What travels in an image file beside its pixels (text chunks, EXIF, colour profiles) stops here.
Every unusable file is an ``ImageError`` that names the fault; nothing here guesses or repairs.
"""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from reasoning.errors import ImageError
from reasoning.records import ImageRef

# Formats that decode in-process: Pillow would hand EPS to an outside program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
"""About 8000 × 8000: 190 MB once decoded."""


def load_image(ref: ImageRef, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image as upright 8-bit RGB with empty ``info``; of an animation the first frame.

    Transparent parts are laid on white. Raises ImageError when it is missing, no image of a known
    format, truncated, or has more than ``max_pixels``.
    """
    if (ref.data is None) == (ref.uri is None):
        raise ImageError("ImageRef needs either data or uri, and not both")
    if ref.data is not None:
        return _decode(ref.data, "image bytes", max_pixels)
    uri = ref.uri or ""
    return _decode(_read(uri), uri, max_pixels)


def check_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> str:
    """The media type of a usable image (``image/png`` …); raises ImageError as ``load_image`` does."""
    _decode(data, "image bytes", max_pixels)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return Image.MIME[str(image.format)]


def image_bytes(ref: ImageRef) -> bytes:
    """The encoded bytes as they are, metadata included: for a teacher, never for a model. Raises ImageError."""
    return ref.data if ref.data is not None else _read(ref.uri or "")


def _read(uri: str) -> bytes:
    """The bytes behind a path, a ``file://`` URI or an object store's URI."""
    parts = urlparse(uri)
    try:
        if parts.scheme in ("", "file"):
            return Path(unquote(parts.path) if parts.scheme else uri).read_bytes()
        from pyarrow import fs

        store, path = fs.FileSystem.from_uri(uri)
        with store.open_input_file(path) as stream:
            return bytes(stream.read())
    except FileNotFoundError as error:
        raise ImageError(f"no image at {uri}") from error
    except (OSError, ValueError) as error:
        # ValueError is what pyarrow raises for a scheme that it does not know.
        raise ImageError(f"cannot read image {uri}: {error}") from error


def _decode(data: bytes, name: str, max_pixels: int) -> Image.Image:
    if not data:
        raise ImageError(f"{name}: empty, no image in it")
    try:
        with warnings.catch_warnings():
            # Our own limit, below, is the one that counts.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image, or not one of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: too large ({error}); the limit is {max_pixels} pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise ImageError(f"{name}: broken image header ({error})") from error
    with opened as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(f"{name}: too large, {width} × {height}; the limit is {max_pixels} pixels")
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _without_metadata(_to_rgb(upright))
        except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
            raise ImageError(f"{name}: truncated or broken image ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; 16-bit greys are scaled, not clipped; transparency is laid on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.size and values.max() > 255 else 255.0
        grey = np.clip(values / top * 255.0, 0, 255).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _without_metadata(image: Image.Image) -> Image.Image:
    return Image.frombytes("RGB", image.size, image.tobytes())
