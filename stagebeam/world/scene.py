"""What is in a scene: a few coloured shapes on a three by three grid."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")
SIZES = ("small", "big")
COLORS = ("red", "green", "blue", "yellow", "purple", "gray")
SHAPES = ("circle", "square", "triangle", "star")
MAX_OBJECTS = 5


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object; ``row`` and ``column`` count from the top left."""

    row: int
    column: int
    size: str
    color: str
    shape: str

    @property
    def place(self) -> str:
        return f"{ROWS[self.row]} {COLUMNS[self.column]}"

    @property
    def phrase(self) -> str:
        return f"{self.place} {self.size} {self.color} {self.shape}"

    def changed(self, attribute: str, value: str) -> Thing:
        """The same object with another ``size``, ``color`` or ``shape``."""
        words = {"size": self.size, "color": self.color, "shape": self.shape, attribute: value}
        return Thing(row=self.row, column=self.column, **words)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Objects in reading order, and the seed of the drawing's jitter and noise."""

    things: tuple[Thing, ...]
    seed: int

    @property
    def caption(self) -> str:
        return describe(self.things)

    def as_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "things": [asdict(t) for t in self.things]}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Scene:
        return cls(seed=int(raw["seed"]), things=tuple(Thing(**t) for t in raw["things"]))


def describe(things: Sequence[Thing]) -> str:
    """The caption: every object with its place, in reading order."""
    return "; ".join(t.phrase for t in things) + "."


def sample_scene(rng: random.Random) -> Scene:
    """A scene of two to five objects, each on a cell of its own.

    Attributes are drawn from a few of the colours and shapes, so that several objects share one
    and counting has something to count.
    """
    count = rng.randint(2, MAX_OBJECTS)
    cells = sorted(rng.sample(range(9), count))
    colors = rng.sample(COLORS, rng.randint(2, 4))
    shapes = rng.sample(SHAPES, rng.randint(2, 3))
    things = tuple(
        Thing(row=c // 3, column=c % 3, size=rng.choice(SIZES), color=rng.choice(colors), shape=rng.choice(shapes))
        for c in cells
    )
    return Scene(things=things, seed=rng.randrange(2**31))
