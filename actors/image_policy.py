"""How pictures are sent to a teacher: how large, in which format, and when as they are."""

from __future__ import annotations

import io
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from actors.image_files import MAX_PIXELS, has_transparency, opened, orientation, to_rgb, upright
from reasoning.errors import ImageError

_SENT_AS_IT_IS = {"PNG": ("1", "L", "P", "RGB"), "JPEG": ("L", "RGB"), "WEBP": ("RGB",)}
"""Formats that every endpoint reads, and the modes in which they hold what everybody sees alike."""
_SCALED_AS_THEY_ARE = ("L", "LA", "RGB", "RGBA")
_FEW_COLOURS = 256
_BIT_DEPTH_AT = 24
"""Where a PNG says how many bits a channel has."""
_SHRINKINGS = 12
"""A picture of noise is a hundredth of its bytes after so many."""
_SHRINK = 0.8


class ImageFormat(StrEnum):
    """What pictures are encoded in when they are encoded anew."""

    AUTO = "auto"
    """PNG for a picture of at most 256 colours (drawings, scans in black and white, screens), else JPEG."""
    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"


class Reencode(StrEnum):
    WHEN_NEEDED = "when_needed"
    """Bytes that are within the policy are sent as they are, with whatever metadata they have."""
    ALWAYS = "always"
    """Every picture is encoded anew, which leaves its metadata behind: places, names, prompts."""


class ImagePolicy(BaseModel):
    """What a picture may be like when it is sent; one that is not is brought to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    longest_side: int = Field(default=1568, ge=16, le=8000)
    """In pixels; larger pictures are scaled down.

    Claude's endpoint scales what is longer than 1568 down by itself (newer ones not below that), and
    OpenAI's tiled models show at most 768 on the shorter side: more costs upload and shows nothing.
    The published data sets of this method are photographs and charts below it, pages of DocVQA about
    a third above it; raise it for small print and a teacher that takes it.
    """
    format: ImageFormat = ImageFormat.AUTO
    """What a picture becomes when it is encoded anew; with one named, other formats always are."""
    quality: int = Field(default=90, ge=1, le=100)
    """Of JPEG and WebP; at 90 the edges of letters stay clean."""
    reencode: Reencode = Reencode.WHEN_NEEDED
    """Whether pictures that are within the policy are left as they are."""
    max_bytes: int = Field(default=3_750_000, ge=1000)
    """The most bytes of a picture; as base64 a third more, and 5 MB of base64 is the least that a provider takes.

    A picture that is larger is encoded anew, and made smaller until it fits.
    """


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """A picture as it is sent."""

    data: bytes
    media_type: str
    """What the bytes are: ``image/png``, ``image/jpeg`` or ``image/webp``."""
    width: int
    height: int


def encoded(data: bytes, name: str, policy: ImagePolicy) -> EncodedImage:
    """The picture in ``data`` within ``policy``; ``name`` is what errors call it. Raises ImageError."""
    with opened(data, name, MAX_PIXELS) as image:
        turned = orientation(image)
        if policy.reencode is Reencode.WHEN_NEEDED and _is_within(image, data, turned, policy):
            form = str(image.format)
            width, height = image.size
            # Decoded all the same: a picture that is cut off is found here and not by the teacher.
            image.draft(image.mode, (1, 1))
            image.load()
            return EncodedImage(data=data, media_type=Image.MIME[form], width=width, height=height)
        pixels, is_drawn = _pixels(image, turned, policy)
    return _written(pixels, _format_for(policy, is_drawn=is_drawn), name, policy)


def _is_within(image: Image.Image, data: bytes, turned: int, policy: ImagePolicy) -> bool:
    form = str(image.format)
    return (
        image.mode in _SENT_AS_IT_IS.get(form, ())
        and policy.format in (ImageFormat.AUTO, form.lower())
        and turned == 1
        and getattr(image, "n_frames", 1) == 1
        and max(image.size) <= policy.longest_side
        and len(data) <= policy.max_bytes
        and not has_transparency(image)
        and not (form == "PNG" and data[_BIT_DEPTH_AT] > 8)
    )


def _pixels(image: Image.Image, turned: int, policy: ImagePolicy) -> tuple[Image.Image, bool]:
    """Upright RGB within the longest side, and whether the picture has few colours."""
    target = _scaled(image.size, policy.longest_side)
    # A JPEG is decoded at an eighth, a quarter or a half where that is still large enough.
    image.draft(image.mode, target)
    image.load()
    # Before it is scaled, which mixes colours.
    is_drawn = policy.format is ImageFormat.AUTO and _has_few_colours(image)
    if image.mode in _SCALED_AS_THEY_ARE and "transparency" not in image.info:
        image = _resized(image, target)  # First: what follows then takes no copies of the whole.
    return upright(_resized(to_rgb(image), target), turned), is_drawn


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _scaled(size: tuple[int, int], longest: int) -> tuple[int, int]:
    width, height = size
    share = min(1.0, longest / max(size))
    return max(1, round(width * share)), max(1, round(height * share))


def _has_few_colours(image: Image.Image) -> bool:
    """Whether 256 tell them all apart; JPEGs and 16-bit greys are taken for photographs."""
    if image.format in ("JPEG", "MPO") or image.mode == "F" or image.mode.startswith("I"):
        return False
    if image.mode in ("1", "P", "L", "PA"):
        # A palette has 256 at most; so has a grey photograph, which is why its greys are counted.
        return image.mode != "L" or image.getcolors(_FEW_COLOURS // 4) is not None
    return image.getcolors(_FEW_COLOURS) is not None


def _format_for(policy: ImagePolicy, *, is_drawn: bool) -> str:
    if policy.format is ImageFormat.AUTO:
        return "PNG" if is_drawn else "JPEG"
    return policy.format.value.upper()


def _written(pixels: Image.Image, form: str, name: str, policy: ImagePolicy) -> EncodedImage:
    """The bytes, of a smaller picture where they would be too many."""
    for _ in range(_SHRINKINGS):
        data = _encode(pixels, form, policy.quality)
        if len(data) <= policy.max_bytes:
            return EncodedImage(data=data, media_type=Image.MIME[form], width=pixels.width, height=pixels.height)
        if form == "PNG" and policy.format is ImageFormat.AUTO:
            form = "JPEG"
            continue
        pixels = _resized(pixels, _scaled(pixels.size, max(1, int(max(pixels.size) * _SHRINK))))
    raise ImageError(
        f"{name}: {len(data)} bytes as {form} of {pixels.width} × {pixels.height}, more than "
        f"ImagePolicy.max_bytes = {policy.max_bytes}"
    )


def _encode(pixels: Image.Image, form: str, quality: int) -> bytes:
    options: dict[str, Any] = {} if form == "PNG" else {"quality": quality}
    stream = io.BytesIO()
    # From the pixels alone: what came beside them does not go out again.
    Image.frombytes("RGB", pixels.size, pixels.tobytes()).save(stream, form, **options)
    return stream.getvalue()
