"""Odd picture files: used or refused with a reason, never a crash."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from actors.images import EncodedImage, ImageFormat, ImagePolicy, Reencode, check_image, encode_image, load_image
from reasoning.errors import ImageError
from reasoning.records import ImageRef
from stagebeam.world.dataset import make_questions
from stagebeam.world.teacher import read_truth

DEFAULT = ImagePolicy()
ALWAYS = ImagePolicy(reencode=Reencode.ALWAYS)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def photo(width: int = 64, height: int = 48, channels: int = 3) -> Image.Image:
    """Smooth, with noise: more than 256 colours, and what a lossy format changes little."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 30, (height, width, channels))
    planes = [x * 220 // width, y * 220 // height, (x + y) * 220 // (width + height), x * 0 + 128][:channels]
    return Image.fromarray((np.stack(planes, axis=-1) + noise).astype(np.uint8).squeeze())


def drawing() -> Image.Image:
    image = Image.new("RGB", (40, 30), "white")
    image.paste((200, 0, 0), (5, 5, 20, 20))
    return image


def encode(data: bytes, policy: ImagePolicy = DEFAULT, **claims: str) -> EncodedImage:
    return encode_image(ImageRef(data=data, **claims), policy)


def seen(found: EncodedImage) -> Image.Image:
    """What the teacher sees; the value's own claims are checked on the way."""
    image = Image.open(io.BytesIO(found.data))
    assert found.media_type == Image.MIME[str(image.format)]
    assert (found.width, found.height) == image.size
    return image


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("JPEG", "RGB"), ("WEBP", "RGB")]
)
def test_what_is_within_the_policy_is_sent_byte_for_byte(kind: str, mode: str) -> None:
    data = saved(photo().convert(mode), kind)
    found = encode(data)
    assert found.data is data
    assert (found.media_type, found.width, found.height) == (f"image/{kind.lower()}", 64, 48)


def test_embedded_scenes_keep_their_truth_by_default_and_lose_it_when_encoded_anew() -> None:
    question = make_questions(1, seed=1, split="test")[0]
    assert question.image is not None
    assert encode_image(question.image, DEFAULT).data == question.image.data
    assert read_truth(encode_image(question.image, ALWAYS).data) is None


def test_the_media_type_is_what_the_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(saved(photo(), "JPEG"))
    found = encode_image(ImageRef(uri=str(path), media_type="image/gif"), DEFAULT)
    assert found.media_type == "image/jpeg"
    assert found.data == path.read_bytes()


@pytest.mark.parametrize(("image", "form"), [(photo(), "JPEG"), (drawing(), "PNG")])
def test_auto_keeps_drawings_lossless(image: Image.Image, form: str) -> None:
    found = seen(encode(saved(image), ALWAYS))
    assert found.format == form
    assert np.abs(np.asarray(found, int) - np.asarray(image, int)).mean() < (1 if form == "PNG" else 12)


@pytest.mark.parametrize("form", [ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.WEBP])
def test_a_named_format_is_what_comes_out(form: ImageFormat) -> None:
    for data in (saved(photo()), saved(photo(), "JPEG"), saved(photo(), "WEBP")):
        assert encode(data, ImagePolicy(format=form)).media_type == f"image/{form}"


@pytest.mark.parametrize(("size", "expected"), [((400, 100), (200, 50)), ((90, 300), (60, 200)), ((4000, 3), (200, 1))])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_longest_side(kind: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    found = seen(encode(saved(photo(*size), kind), ImagePolicy(longest_side=200)))
    assert found.size == expected
    if min(expected) > 1:
        whole = photo(*size).resize(expected, Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(found.convert("RGB"), int) - np.asarray(whole, int)).mean() < 8


def test_too_many_bytes_become_fewer() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    data = saved(noise)
    policy = ImagePolicy(max_bytes=20_000)
    assert len(data) > 100_000
    found = encode(data, policy)
    assert len(found.data) <= 20_000
    assert 0 < seen(found).width <= 200
    assert len(encode(data, ImagePolicy(max_bytes=20_000, format=ImageFormat.PNG)).data) <= 20_000


def test_re_encoding_leaves_metadata_behind() -> None:
    info = PngInfo()
    info.add_text("place", "52.1 N")
    exif = Image.Exif()
    exif[0x010E] = "52.1 N"
    for data in (saved(photo(), pnginfo=info), saved(photo(), "JPEG", exif=exif, comment=b"52.1 N")):
        assert b"52.1 N" in data
        assert b"52.1 N" not in encode(data, ALWAYS).data


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue", "lime")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    found = seen(encode(data))
    assert getattr(found, "n_frames", 1) == 1
    red, green, blue = found.convert("RGB").getpixel((10, 10))  # type: ignore[misc]
    assert red > 240 > 20 > max(green, blue)


def test_several_jpegs_in_one_file_give_the_first() -> None:
    data = saved(Image.new("RGB", (32, 32), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))])
    assert check_image(data) == "image/jpeg"
    found = seen(encode(data))
    assert found.format == "JPEG"
    assert found.getpixel((5, 5))[0] > 240  # type: ignore[index]


def without_adobe(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xee")
    (length,) = struct.unpack(">H", jpeg[at + 2 : at + 4])
    return jpeg[:at] + jpeg[at + 2 + length :]


def test_cmyk_is_seen_in_its_colours_with_adobes_inks_turned_over_or_not() -> None:
    red = saved(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95)
    turned_over = saved(Image.new("CMYK", (32, 32), (255, 0, 0, 255)), "JPEG", quality=95)
    for data in (red, without_adobe(turned_over)):
        red_, green, blue = seen(encode(data)).getpixel((9, 9))  # type: ignore[misc]
        assert red_ > 230 > 25 > max(green, blue)


def test_sixteen_bit_grey_is_scaled() -> None:
    ramp = np.linspace(0, 65535, 64 * 600).reshape(600, 64).astype(np.uint16)
    found = seen(encode(saved(Image.fromarray(ramp))))
    assert np.abs(np.asarray(found.convert("L"), int) - ramp // 257).max() <= 6


def png(width: int, height: int, depth: int, colour: int, body: bytes, *more: tuple[bytes, bytes]) -> bytes:
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        *more,
        (b"IDAT", body),
        (b"IEND", b""),
    ]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_sixteen_bit_colour_is_sent_with_eight() -> None:
    rows = b"".join(b"\x00" + struct.pack(">HHH", 65535, 32768, 0) * 8 for _ in range(8))
    found = seen(encode(png(8, 8, 16, 2, zlib.compress(rows))))
    assert found.getpixel((3, 3)) == (255, 128, 0)
    assert encode(saved(found)).data[24] == 8


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation_is_applied_as_a_viewer_would(kind: str, turned: int) -> None:
    from PIL import ImageOps

    image = photo(48, 32)
    exif = Image.Exif()
    exif[0x0112] = turned
    data = saved(image, kind, exif=exif, quality=95)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    found = seen(encode(data))
    assert found.size == expected.size
    # A lossy format changes this picture by 7; any other turn changes it by more than 50.
    assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).mean() < 10
    assert load_image(ImageRef(data=data)).tobytes() == expected.convert("RGB").tobytes()


def test_broken_exif_does_not_cost_the_picture() -> None:
    data = saved(photo(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\x00\x00")
    assert encode(data).data == data
    assert load_image(ImageRef(data=data)).size == (64, 48)


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 10, 20))
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(1, (0, 0, 10, 20))
    for data in (
        saved(clear),
        saved(palette, transparency=0),
        saved(palette, "GIF", transparency=0),
        saved(clear, "WEBP"),
    ):
        found = seen(encode(data)).convert("RGB")
        assert [
            max(abs(a - b) for a, b in zip(found.getpixel((x, 5)), want, strict=True)) < 8
            for x, want in (  # type: ignore[arg-type]
                (4, (255, 0, 0)),
                (15, (255, 255, 255)),
            )
        ] == [True, True]


def test_one_pixel_is_a_picture() -> None:
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        assert seen(encode(saved(Image.new("RGB", (1, 1), "red"), kind))).size == (1, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x00" * 500, "not an image"),
        (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7 nothing", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_what_is_no_picture_is_refused_with_what_it_is(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        encode(data)


def test_missing_files_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("gone.png", "", "pipe.png", "nul\0.png", "x" * 5000):
        with pytest.raises(ImageError):
            encode_image(ImageRef(uri=f"{tmp_path}/{name}"), DEFAULT)


def test_data_uris_are_read() -> None:
    import base64

    data = saved(photo())
    uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    assert encode_image(ImageRef(uri=uri), DEFAULT).data == data
    for broken in ("data:image/png;base64,!!", "data:image/png;base64", "data:,hello"):
        with pytest.raises(ImageError):
            encode_image(ImageRef(uri=broken), DEFAULT)


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2**31 - 1, 2), (9_000, 9_000), (100_000, 1_000)])
def test_huge_pictures_are_refused_before_anything_is_decoded(width: int, height: int) -> None:
    import tracemalloc

    bomb = png(width, height, 8, 0, zlib.compress(b"\x00" * 100_000))
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"too large|broken"):
        encode(bomb)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_text_chunks_that_unpack_to_too_much_are_refused() -> None:
    text = b"Comment\x00\x00" + zlib.compress(b"x" * 5_000_000)
    rows = zlib.compress(b"\x00\x00" * 8)
    with pytest.raises(ImageError, match="image"):
        encode(png(1, 8, 8, 0, rows, (b"zTXt", text)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.8, 0.97])
@pytest.mark.parametrize("policy", [DEFAULT, ALWAYS])
def test_cut_off_files_are_refused(kind: str, share: float, policy: ImagePolicy) -> None:
    data = saved(photo(200, 150), kind)
    with pytest.raises(ImageError, match=r"truncated|broken|not an image"):
        encode(data[: int(len(data) * share)], policy)


def _samples() -> list[bytes]:
    small = photo(24, 16)
    exif = Image.Exif()
    exif[0x0112] = 6
    info = PngInfo()
    info.add_text("note", "text " * 20, zip=True)
    frames = {"save_all": True, "append_images": [photo(24, 16).rotate(180)]}
    return [
        saved(small, "PNG", pnginfo=info, exif=exif),
        saved(small.quantize(16), "PNG", transparency=3),
        saved(small, "PNG", **frames),
        saved(Image.fromarray(np.arange(384, dtype=np.uint16).reshape(16, 24) * 100)),
        saved(small, "JPEG", exif=exif),
        saved(small, "JPEG", progressive=True),
        saved(small.convert("CMYK"), "JPEG"),
        saved(small, "MPO", **frames),
        saved(small, "WEBP", exif=exif),
        saved(small.convert("RGBA"), "WEBP", lossless=True),
        saved(small, "WEBP", **frames),
        saved(small, "GIF", **frames),
        saved(small, "BMP"),
        saved(small, "TIFF", compression="tiff_lzw"),
        saved(small, "TIFF", compression="jpeg"),
    ]


SAMPLES = _samples()
EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)


@settings(max_examples=400, deadline=None)
@given(sample=st.sampled_from(SAMPLES), edits=EDITS, kept=st.floats(0.2, 1.2), early=st.booleans())
def test_whatever_bytes_are_wrong_it_is_a_picture_or_an_image_error(
    sample: bytes, edits: list[tuple[float, int]], kept: float, early: bool
) -> None:
    data = bytearray(sample)
    for place, value in edits:
        # Half of the trials change the first bytes alone: there are the headers.
        data[int(place * (min(len(data), 64) if early else len(data)))] = value
    broken = bytes(data[: int(len(data) * kept)])
    for policy in (DEFAULT, ALWAYS):
        try:
            found = encode(broken, policy)
        except ImageError:
            continue
        assert seen(found).size == (found.width, found.height)
