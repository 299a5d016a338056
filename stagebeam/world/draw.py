"""Draws a scene with Pillow: 72 x 72 pixels, jitter, noise, drawn at four times the size and reduced."""

from __future__ import annotations

import io
import math
import random

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from stagebeam.world.scene import Scene, Thing

SIDE = 72
CELL = SIDE // 3
OVERSAMPLING = 4
NOISE = 14.0
"""Standard deviation of the pixel noise, out of 255: what makes a caption err now and then."""
COLOR_SPREAD = 16.0
"""Standard deviation of a whole object's colour, a channel, out of 255."""
TRUTH_KEY = "stagebeam-truth"

PAINT = {
    "red": (205, 60, 55),
    "green": (70, 155, 75),
    "blue": (65, 100, 200),
    "yellow": (215, 190, 60),
    "purple": (140, 75, 170),
    "gray": (130, 130, 130),
}
RADIUS = {"small": (4.6, 5.8), "big": (7.4, 8.8)}


def _outline(shape: str, x: float, y: float, r: float, turn: float) -> list[tuple[float, float]]:
    corners = {"square": 4, "triangle": 3, "star": 10}[shape]
    start = {"square": math.pi / 4, "triangle": -math.pi / 2, "star": -math.pi / 2}[shape] + turn
    points = []
    for i in range(corners):
        reach = r * (0.45 if shape == "star" and i % 2 else 1.15)
        angle = start + 2 * math.pi * i / corners
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return points


def _paint(draw: ImageDraw.ImageDraw, thing: Thing, rng: random.Random) -> None:
    scale = OVERSAMPLING
    radius = rng.uniform(*RADIUS[thing.size])
    room = CELL / 2 - radius * 1.15 - 0.5
    x = (thing.column + 0.5) * CELL + rng.uniform(-room, room)
    y = (thing.row + 0.5) * CELL + rng.uniform(-room, room)
    color = tuple(max(0, min(255, int(c + rng.gauss(0, COLOR_SPREAD)))) for c in PAINT[thing.color])
    if thing.shape == "circle":
        box = [(x - radius) * scale, (y - radius) * scale, (x + radius) * scale, (y + radius) * scale]
        draw.ellipse(box, fill=color)
    else:
        points = _outline(thing.shape, x, y, radius, rng.uniform(-0.2, 0.2))
        draw.polygon([(px * scale, py * scale) for px, py in points], fill=color)


def draw_scene(scene: Scene) -> Image.Image:
    """The picture, RGB; the same scene gives the same pixels."""
    rng = random.Random(scene.seed)
    back = tuple(int(225 + rng.uniform(-12, 12)) for _ in range(3))
    canvas = Image.new("RGB", (SIDE * OVERSAMPLING, SIDE * OVERSAMPLING), back)
    draw = ImageDraw.Draw(canvas)
    for thing in scene.things:
        _paint(draw, thing, rng)
    small = np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32)
    noise = np.random.default_rng(scene.seed).normal(0.0, NOISE, small.shape)
    return Image.fromarray(np.clip(small + noise, 0, 255).astype(np.uint8))


def encode_png(image: Image.Image, truth: str | None) -> bytes:
    """PNG bytes; ``truth`` (JSON) goes into a text chunk that only the stand-in teacher reads."""
    info = PngImagePlugin.PngInfo()
    if truth is not None:
        info.add_text(TRUTH_KEY, truth)
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=info, compress_level=1)
    return out.getvalue()
