"""How well copies of pictures are told from other pictures, and how fast.

Three kinds of pictures: easy-VQA's real 64 × 64 ones, drawn bar charts, pages of text. Each is
copied as JPEG of several qualities and sizes; a copy must be found among the originals, and no
original may be taken for another. Run: ``python -m benchmarks.picture_matching`` (two minutes).
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from pipelines.decontaminate_match import BenchmarkIndex, BenchmarkItem, Look, MatchConfig, look_of

COPIES = ((90, 1.0), (50, 1.0), (85, 0.5), (85, 0.75), (85, 2.0))
"""JPEG quality and scale."""
COPIED = 100
"""Pictures of each kind that are copied."""


def main() -> None:
    """Print a row for each kind of picture and setting, then the time a picture takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000, help="easy-VQA pictures; fewer of the others")
    count = parser.parse_args().pictures
    kinds = {
        "easy-VQA": easy_vqa_pictures(count),
        "charts": [chart(seed) for seed in range(count // 5)],
        "text": [page(seed) for seed in range(count // 10)],
    }
    copies = " | ".join(f"q{quality} ×{scale:g}" for quality, scale in COPIES)
    print(f"| pictures | bits | limit | wrong pairs | {copies} |")
    settings: list[tuple[Literal[64, 256], int]] = [(64, 4), (256, 24), (256, 32), (256, 40)]
    for bits, limit in settings:
        for name, pictures in kinds.items():
            print(measured(name, pictures, MatchConfig(hash_bits=bits, max_distance=limit)), flush=True)
    print_speed(kinds)


def measured(name: str, pictures: Sequence[Image.Image], config: MatchConfig) -> str:
    """A line of the table: pairs of originals that match, copies that are found."""
    looks = {number: seen for number, one in enumerate(pictures) if (seen := look_of(one, config.hash_bits))}
    index = BenchmarkIndex([item(str(number), look) for number, look in looks.items()], config)
    wrong = 0
    for number, look in looks.items():
        others = [item(str(other), picture) for other, picture in looks.items() if other != number]
        wrong += len(pairs(look, others, config))
    found = []
    for quality, scale in COPIES:
        chosen = [number for number in looks if number < COPIED]
        copies = [look_of(copied(pictures[number], quality, scale), config.hash_bits) for number in chosen]
        hits = sum(look is not None and bool(index.matches("", look)) for look in copies)
        found.append(f"{hits} of {len(chosen)}")
    total = len(looks) * (len(looks) - 1)
    return f"| {name} | {config.hash_bits} | {config.distance} | {wrong} of {total:,} | {' | '.join(found)} |"


def pairs(look: Look, others: Sequence[BenchmarkItem], config: MatchConfig) -> list[str]:
    """The other pictures that are taken for the same, each told (an index alone tells the best)."""
    bits = np.array([other.looks[0].bits for other in others])
    near = np.flatnonzero(np.bitwise_count(bits ^ look.bits).sum(axis=1) <= config.distance)
    return [row for place in near for row in one_match(look, others[int(place)], config)]


def one_match(look: Look, other: BenchmarkItem, config: MatchConfig) -> list[str]:
    return [match.row for match in BenchmarkIndex([other], config).matches("", look)]


def item(row: str, look: Look) -> BenchmarkItem:
    return BenchmarkItem(benchmark="originals", row=row, text="", looks=(look,))


def print_speed(kinds: Mapping[str, Sequence[Image.Image]]) -> None:
    """Milliseconds for a look and for a comparison with many."""
    config = MatchConfig()
    for name, pictures in kinds.items():
        chosen = pictures[:50]
        started = time.perf_counter()
        for one in chosen:
            look_of(one, config.hash_bits)
        print(f"look at {name} {chosen[0].size}: {(time.perf_counter() - started) / len(chosen) * 1e3:.1f} ms")
    chance = np.random.default_rng(0)
    for count in (10_000, 50_000):
        bits = chance.integers(0, 2**63, (count, 4), dtype=np.uint64)
        small = chance.integers(0, 256, (count, 192)).astype(np.uint8)
        looks = [Look(bits=bits[number], thumbnail=small[number]) for number in range(count)]
        index = BenchmarkIndex([item(str(number), look) for number, look in enumerate(looks)], config)
        started = time.perf_counter()
        for look in looks[:300]:
            index.matches("How many bars are there?", look)
        print(f"compare with {count:,} pictures: {(time.perf_counter() - started) / 300 * 1e3:.2f} ms")


def easy_vqa_pictures(count: int) -> list[Image.Image]:
    """The first pictures of easy-VQA's training split."""
    folder = Path(str(files("easy_vqa"))) / "data" / "train" / "images"
    return [Image.open(folder / f"{number}.png").convert("RGB") for number in range(count)]


def chart(seed: int) -> Image.Image:
    """Four to nine bars with labels."""
    rng = random.Random(seed)
    image = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(image)
    bars = rng.randint(4, 9)
    draw.line((60, 20, 60, 430, 620, 430), fill="black", width=2)
    for bar in range(bars):
        left = 80 + bar * 520 // bars
        draw.rectangle((left, 430 - rng.randint(20, 390), left + 300 // bars, 430), fill=(70, 130, 180))
        draw.text((left, 435), f"cat{bar}", fill="black")
    draw.text((200, 5), f"Chart number {seed}", fill="black")
    return image


def page(seed: int) -> Image.Image:
    """A page of letters in lines."""
    rng = random.Random(seed)
    image = Image.new("RGB", (800, 1000), "white")
    draw = ImageDraw.Draw(image)
    for top in range(40, 960, 18):
        words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 9))) for _ in range(14)]
        draw.text((50, top), " ".join(words), fill="black")
    return image


def copied(image: Image.Image, quality: int, scale: float) -> Image.Image:
    """The picture scaled and as JPEG."""
    size = (max(8, int(image.width * scale)), max(8, int(image.height * scale)))
    buffer = io.BytesIO()
    image.resize(size).save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


if __name__ == "__main__":
    main()
