"""What pictures cost: the examples that the providers publish, and names of models as people write them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from actors.image_headers import header_size
from actors.image_tokens import Detail, fitted, image_rule
from reasoning.errors import ImageError
from reasoning.records import ImageRef


@pytest.mark.parametrize(
    ("model", "size", "detail", "tokens"),
    [
        ("gpt-4o", (1024, 1024), "high", 765),
        ("openai/gpt-4o-2024-11-20", (2048, 4096), "high", 1105),
        ("gpt-4.1", (4096, 8192), "low", 85),
        ("gpt-4o-mini", (1024, 1024), "high", 2833 + 4 * 5667),
        ("gpt-4o-mini", (1024, 1024), "low", 2833),
        ("gpt-5", (300, 200), "high", 210),
        ("o3", (300, 200), "high", 225),
        ("gpt-4.1-mini", (1024, 1024), "high", 1659),
        ("gpt-4.1-mini", (1800, 2400), "high", 2353),
        ("gpt-5-nano", (32, 32), "high", 3),
        ("claude-sonnet-4-5", (1000, 1000), "high", 1334),
        ("anthropic/claude-3.5-haiku", (200, 200), "high", 54),
        ("claude-opus-4", (6000, 6000), "high", 1600),
        ("gemini-2.5-flash", (384, 384), "high", 258),
        ("google/gemini-2.0-flash", (960, 540), "high", 1548),
        ("Qwen/Qwen2.5-VL-72B-Instruct", (224, 224), "high", 66),
        ("qwen2-vl-7b", (10, 10), "high", 6),
        ("qwen3-vl-8b", (320, 320), "high", 102),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", (500, 300), "high", 1601),
        ("llama3.2-vision", (1120, 1120), "high", 4 * 1601),
        ("llama-3.2-90b-vision-preview", (1600, 500), "high", 3 * 1601),
        ("llama-3.2-90b-vision-preview", (4000, 500), "high", 4 * 1601),
    ],
)
def test_pictures_cost_what_the_providers_say(model: str, size: tuple[int, int], detail: Detail, tokens: int) -> None:
    rule = image_rule(model, detail)
    assert rule.is_known
    assert rule.tokens(*size) == tokens


@pytest.mark.parametrize("size", [(20000, 20000), (9000, 7000), (30000, 500)])
def test_huge_pictures_cost_no_more_than_the_most(size: tuple[int, int]) -> None:
    assert 15_000 < image_rule("qwen2-vl").tokens(*size) <= 16_386
    assert image_rule("gpt-4.1-mini").tokens(*size) <= 1536 * 1.62 + 1
    assert image_rule("claude-sonnet-4").tokens(*size) <= 1600


def test_a_model_nobody_knows_counts_as_the_common_one_and_says_so() -> None:
    rule = image_rule("acme-vision")
    assert (rule.is_known, rule.tokens(1024, 1024)) == (False, 765)


def test_pictures_are_shrunk_and_never_enlarged() -> None:
    assert fitted((4000, 3000), 1000) == (1000, 750)
    assert fitted((400, 300), 1000) == (400, 300)
    assert fitted((4000, 3), 1000) == (1000, 1)
    assert fitted((4000, 3000), None) == (4000, 3000)


def test_size_is_read_from_the_header_alone(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200)).save(buffer, "PNG")
    cut = buffer.getvalue()[:60]
    path = tmp_path / "a b.png"
    path.write_bytes(cut)
    for image in (ImageRef(data=cut), ImageRef(uri=str(path)), ImageRef(uri=path.as_uri())):
        assert header_size(image) == (300, 200)


def test_what_has_no_header_is_an_image_error(tmp_path: Path) -> None:
    for image in (ImageRef(data=b"GIF"), ImageRef(uri=str(tmp_path / "none.png"))):
        with pytest.raises(ImageError):
            header_size(image)
