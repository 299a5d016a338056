"""How many prompt tokens a picture costs, by the family of the model that is sent it.

The rules are the providers' own, as published (each docstring names where); none is measured here.
Pure arithmetic on width and height.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

Detail = Literal["low", "high"]
Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, kw_only=True)
class ImageRule:
    """A family's rule; ``is_known`` False: the model's name says nothing, the rule is the common one."""

    name: str
    count: Callable[[int, int], int]
    is_known: bool = True

    def tokens(self, width: int, height: int) -> int:
        """Tokens for a picture of this size, as it is sent."""
        return self.count(width, height)


def openai_tiles(width: int, height: int, *, base: int, tile: int, detail: Detail = "high") -> int:
    """Tiles of 512 pixels after shrinking to 2048 × 2048 and to a shortest side of 768; low detail: the base alone.

    platform.openai.com/docs/guides/images-vision, "Calculating costs"; ``base`` and ``tile`` differ by model.
    """
    if detail == "low":
        return base
    width, height = _within(width, height, longest=2048, shortest=768)
    return base + tile * math.ceil(width / 512) * math.ceil(height / 512)


def openai_patches(width: int, height: int, *, multiplier: float, most: int = 1536) -> int:
    """Patches of 32 pixels, at most 1,536 after shrinking, times the model's multiplier.

    platform.openai.com/docs/guides/images-vision, "Calculating costs", the small models of 4.1 and later.
    """
    patches = math.ceil(width / 32) * math.ceil(height / 32)
    if patches > most:
        scale = math.sqrt(32 * 32 * most / (width * height))
        across, down = width * scale / 32, height * scale / 32
        # A little smaller still, so that the shrunk picture is whole patches one way.
        scale *= min(math.floor(across) / across, math.floor(down) / down)
        patches = min(most, math.ceil(round(width * scale / 32, 6)) * math.ceil(round(height * scale / 32, 6)))
    return math.ceil(patches * multiplier)


def claude_area(width: int, height: int) -> int:
    """Width times height by 750, after shrinking to a longest side of 1568 and about 1,600 tokens.

    docs.anthropic.com/en/docs/build-with-claude/vision, "Calculate image costs".
    """
    width, height = _within(width, height, longest=1568)
    return min(1600, max(1, math.ceil(width * height / 750)))


def gemini_tiles(width: int, height: int) -> int:
    """258 tokens up to 384 × 384; beyond, 258 for each tile of side ⌊shorter side / 1.5⌋.

    ai.google.dev/gemini-api/docs/image-understanding, "Token calculation"; Gemini 2.0 and later.
    """
    if width <= 384 and height <= 384:
        return 258
    side = min(768, max(256, math.floor(min(width, height) / 1.5)))
    return 258 * math.ceil(width / side) * math.ceil(height / side)


def qwen_patches(width: int, height: int, *, patch: int, most: int = 16384) -> int:
    """One token for each 28 × 28 pixels (Qwen2-VL, 2.5-VL) or 32 × 32 (Qwen3-VL), at least 4, and two around them.

    ``smart_resize`` of transformers' Qwen2-VL image processor with the released processors' limits.
    """
    across, down = max(1, round(width / patch)), max(1, round(height / patch))
    if across * down > most:
        scale = math.sqrt(width * height / (most * patch * patch))
        across, down = max(1, math.floor(width / scale / patch)), max(1, math.floor(height / scale / patch))
    return max(4, across * down) + 2


def llama_tiles(width: int, height: int, *, side: int = 560, most: int = 4, per_tile: int = 1601) -> int:
    """1,601 vision tokens for each of up to four tiles of 560 pixels (Llama-3.2-Vision).

    The canvas of transformers' Mllama image processor: the least that needs no shrinking, else the least shrinking.
    The language model reads them by cross attention; servers differ in whether they bill them.
    """
    canvases = [(across, down) for across in range(1, most + 1) for down in range(1, most // across + 1)]
    scales = {c: min(c[0] * side / width, c[1] * side / height) for c in canvases}
    enough = [scale for scale in scales.values() if scale >= 1]
    wanted = min(enough) if enough else max(scales.values())
    return per_tile * min(across * down for (across, down), scale in scales.items() if scale == wanted)


_RULES: tuple[tuple[tuple[str, ...], str, Callable[[int, int], int]], ...] = (
    (("claude",), "Claude's area rule (w × h / 750)", claude_area),
    (("gemini",), "Gemini's tiles (258 each)", gemini_tiles),
    (("qwen3-vl", "qwen3vl"), "Qwen3-VL's patches of 32 pixels", partial(qwen_patches, patch=32)),
    (("qwen2", "qwen-vl", "qvq"), "Qwen-VL's patches of 28 pixels", partial(qwen_patches, patch=28)),
    (("llama-3.2", "llama3.2", "mllama"), "Llama-3.2-Vision's tiles (1,601 each)", llama_tiles),
    (("gpt-4.1-mini",), "OpenAI's patches × 1.62", partial(openai_patches, multiplier=1.62)),
    (("gpt-4.1-nano",), "OpenAI's patches × 2.46", partial(openai_patches, multiplier=2.46)),
    (("gpt-5-mini",), "OpenAI's patches × 1.62", partial(openai_patches, multiplier=1.62)),
    (("gpt-5-nano",), "OpenAI's patches × 2.46", partial(openai_patches, multiplier=2.46)),
    (("o4-mini",), "OpenAI's patches × 1.72", partial(openai_patches, multiplier=1.72)),
)
_TILES: tuple[tuple[tuple[str, ...], int, int], ...] = (
    (("gpt-4o-mini",), 2833, 5667),
    (("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-4-turbo", "chatgpt-4o"), 85, 170),
    (("gpt-5",), 70, 140),
    (("o1", "o3"), 75, 150),
)
"""Base tokens and tokens a tile; the first whose piece stands in the name counts."""


def image_rule(model: str, detail: Detail = "high") -> ImageRule:
    """The rule for a model by its name at any provider; OpenAI's tiles at 85 + 170 each for names it does not know."""
    name = model.casefold().rpartition("/")[2].replace("_", "-")
    for pieces, title, count in _RULES:
        if any(piece in name for piece in pieces):
            return ImageRule(name=title, count=count)
    for pieces, base, tile in _TILES:
        if any(piece in name for piece in pieces):
            tiles = partial(openai_tiles, base=base, tile=tile, detail=detail)
            return ImageRule(name=f"OpenAI's tiles, {detail} detail ({base} + {tile} a tile)", count=tiles)
    tiles = partial(openai_tiles, base=85, tile=170, detail=detail)
    return ImageRule(name=f"as OpenAI's tiles, {detail} detail (85 + 170 a tile)", count=tiles, is_known=False)


def fitted(size: Size, longest: int | None) -> Size:
    """The size after shrinking to a longest side, if there is one to shrink to."""
    return size if longest is None else _within(*size, longest=longest)


def _within(width: int, height: int, *, longest: int, shortest: int | None = None) -> Size:
    """Shrunk, never enlarged, to a longest and a shortest side."""
    scale = min(1.0, longest / max(width, height))
    if shortest is not None:
        scale = min(scale, shortest / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
