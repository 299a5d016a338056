"""What an answer cost. Engines count ``Usage``; the search adds it up in a ``Ledger``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self


class Summable:
    """Field-wise addition for frozen dataclasses of numbers."""

    def __add__(self, other: Self) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        names = [f.name for f in fields(self)]  # type: ignore[arg-type]
        return type(self)(**{n: getattr(self, n) + getattr(other, n) for n in names})


@dataclass(frozen=True, kw_only=True)
class Usage(Summable):
    """What one request cost its engine, as counted there.

    ``prompt_tokens`` counts every prompt token once a request (not once a candidate);
    ``cached_tokens`` is the part of them that came from a cache and was not computed.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    image_encodes: int = 0
    dollars: float = 0.0

    @property
    def computed_tokens(self) -> int:
        """Tokens that went through the model."""
        return self.prompt_tokens - self.cached_tokens + self.generated_tokens


@dataclass(frozen=True, kw_only=True)
class Ledger(Summable):
    """The compute of one answer, or of many added together.

    ``judge_tokens`` and ``reward_tokens`` are computed tokens (prompt tokens not cached, and
    generated ones). ``serial_steps`` counts rounds that had to wait for one another: calls made
    together are one step. ``seconds`` is wall time of the answer.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    judge_tokens: int = 0
    reward_tokens: int = 0
    image_encodes: int = 0
    serial_steps: int = 0
    seconds: float = 0.0
    dollars: float = 0.0

    @property
    def computed_tokens(self) -> int:
        """All tokens that went through a model: the axis on which strategies are compared."""
        answering = self.prompt_tokens - self.cached_tokens + self.generated_tokens
        return answering + self.judge_tokens + self.reward_tokens

    @classmethod
    def of_generation(cls, usage: Usage) -> Ledger:
        return cls(
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            generated_tokens=usage.generated_tokens,
            image_encodes=usage.image_encodes,
            dollars=usage.dollars,
        )

    @classmethod
    def of_judging(cls, usage: Usage) -> Ledger:
        return cls(judge_tokens=usage.computed_tokens, image_encodes=usage.image_encodes, dollars=usage.dollars)

    @classmethod
    def of_reward(cls, usage: Usage) -> Ledger:
        return cls(reward_tokens=usage.computed_tokens, image_encodes=usage.image_encodes, dollars=usage.dollars)

    @classmethod
    def of_step(cls) -> Ledger:
        return cls(serial_steps=1)

    @classmethod
    def alongside(cls, costs: Sequence[Ledger]) -> Ledger:
        """The sum of what ran at the same time: everything adds up but the steps, of which the longest counts."""
        total = sum(costs, cls())
        return replace(total, serial_steps=max((cost.serial_steps for cost in costs), default=0))

    def as_dict(self) -> dict[str, float]:
        """Field name to number, for JSON and Parquet."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, float]) -> Ledger:
        """The inverse of ``as_dict``; whole-number fields come back as int."""
        floats = {"seconds", "dollars"}
        return cls(**{k: (float(v) if k in floats else math.floor(v)) for k, v in values.items()})  # type: ignore[arg-type]
