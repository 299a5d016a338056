"""What a model gets to see of an image file, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from actors.images import check_image, load_image
from reasoning.errors import ImageError
from reasoning.records import ImageRef


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def load(data: bytes, **options: int) -> Image.Image:
    return load_image(ImageRef(data=data), **options)


def test_metadata_does_not_reach_the_model() -> None:
    info = PngInfo()
    info.add_text("truth", "the answer is 3")
    data = encoded(Image.new("RGB", (4, 4), "red"), pnginfo=info, dpi=(72, 72))
    assert Image.open(io.BytesIO(data)).info["truth"] == "the answer is 3"
    image = load(data)
    assert image.info == {}
    assert not hasattr(image, "text")
    assert b"the answer" not in encoded(image)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no image at .*gone\.png"):
        load_image(ImageRef(uri=str(tmp_path / "gone.png")))


def test_paths_and_file_uris_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(encoded(Image.new("RGB", (3, 2), "blue")))
    assert load_image(ImageRef(uri=str(path))).size == (3, 2)
    assert load_image(ImageRef(uri=path.as_uri())).size == (3, 2)


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(ImageError, match="cannot read image"):
        load_image(ImageRef(uri="nowhere://x/y.png"))


@pytest.mark.parametrize("ref", [ImageRef(), ImageRef(data=b"x", uri="y")])
def test_exactly_one_source_is_needed(ref: ImageRef) -> None:
    with pytest.raises(ImageError, match="either data or uri"):
        load_image(ref)


@pytest.mark.parametrize(("data", "fault"), [(b"", "empty"), (b"hello, no image", "not an image")])
def test_what_is_no_image_is_refused(data: bytes, fault: str) -> None:
    with pytest.raises(ImageError, match=fault):
        load(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_images_are_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ImageError, match=r"truncated|broken|not an image"):
        load(data[: int(len(data) * share)])


def test_too_many_pixels_are_refused_before_decoding() -> None:
    with pytest.raises(ImageError, match="too large, 100 × 100"):
        load(encoded(Image.new("RGB", (100, 100))), max_pixels=9_999)


def test_a_decompression_bomb_is_refused() -> None:
    bomb = bytearray(encoded(Image.new("L", (8, 8))))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    with pytest.raises(ImageError, match="too large"):
        load(bytes(bomb))


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (6, 4), "white")
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = load(encoded(image, "JPEG", exif=exif))
    assert loaded.size == (4, 6)
    assert loaded.info == {}


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load(data).getpixel((0, 0)) == (255, 0, 0)


def test_sixteen_bit_grey_is_scaled() -> None:
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    loaded = load(encoded(Image.fromarray(values)))
    assert loaded.mode == "RGB"
    assert [loaded.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (128, 128, 128), (255, 255, 255)]


def test_cmyk_becomes_rgb() -> None:
    loaded = load(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = loaded.getpixel((0, 0))  # type: ignore[misc]
    assert loaded.mode == "RGB"
    assert red > 200 > 60 > max(green, blue)


def test_transparency_is_laid_on_white() -> None:
    assert load(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)


def test_check_image_tells_the_media_type() -> None:
    assert check_image(encoded(Image.new("RGB", (2, 2)), "JPEG")) == "image/jpeg"
    with pytest.raises(ImageError):
        check_image(b"nothing")
