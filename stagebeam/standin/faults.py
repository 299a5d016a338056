"""How the stand-in misbehaves: which fault, if any, a request meets.

Pure functions of the request and a seed: the same questions meet the same faults, in whatever
order and on whatever machine they are asked.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator


class FaultName(StrEnum):
    REFUSAL = "refusal"
    """Declines, in words or in the reply's ``refusal`` field."""
    MISSING_TAG = "missing_tag"
    """Leaves a closing tag out."""
    WRONG_ANSWER = "wrong_answer"
    """Concludes something else."""
    TRUNCATED = "truncated"
    """Stops in the middle, finish reason ``length``."""
    LEAK = "leak"
    """Speaks of the standard answer it was given."""


class StandInConfig(BaseModel):
    """How a stand-in teacher behaves. All rates are shares of questions, in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int = 0
    """Which questions meet which fault."""
    refusal: float = Field(default=0.03, ge=0, le=1)
    """Declines to answer."""
    missing_tag: float = Field(default=0.04, ge=0, le=1)
    """Leaves a tag out."""
    wrong_answer: float = Field(default=0.04, ge=0, le=1)
    """Concludes something else than the truth."""
    truncated: float = Field(default=0.01, ge=0, le=1)
    """Stops in the middle."""
    leak: float = Field(default=0.01, ge=0, le=1)
    """Mentions the standard answer it was given."""
    stubborn: float = Field(default=0.35, ge=0, le=1)
    """Of the questions that meet a fault: those that meet it at every attempt, the last included."""
    rate_limits: int = Field(default=1, ge=0)
    """The first so many requests get 429 with Retry-After."""
    retry_after_s: int = Field(default=1, ge=0)
    """What Retry-After says."""
    server_errors: int = Field(default=1, ge=0)
    """So many requests after those get 503."""
    slow: float = Field(default=0.0, ge=0, le=1)
    """Answers late."""
    slow_s: float = Field(default=1.0, ge=0)
    """How late."""
    flawless_flaws: bool = True
    """Whether flawed versions for judgements are always given; else they meet the same faults."""

    @model_validator(mode="after")
    def _check_rates(self) -> StandInConfig:
        total = sum(getattr(self, name.value) for name in FaultName)
        if total > 1 + 1e-9:
            raise ValueError(f"the fault rates add up to {total:g}; at most 1")
        return self

    @classmethod
    def faultless(cls, seed: int = 0) -> StandInConfig:
        """A stand-in that never errs."""
        rates = {name.value: 0.0 for name in FaultName}
        return cls(seed=seed, rate_limits=0, server_errors=0, **rates)  # type: ignore[arg-type]


def fault_of(config: StandInConfig, request_key: str, attempt: int) -> FaultName | None:
    """The fault that attempt number ``attempt`` (from 0) at the question ``request_key`` meets."""
    if attempt > 0 and draw(config.seed, "stubborn", request_key) >= config.stubborn:
        return None
    left = draw(config.seed, "fault", request_key)
    for name in FaultName:
        rate = float(getattr(config, name.value))
        if left < rate:
            return name
        left -= rate
    return None


def is_slow(config: StandInConfig, request_key: str, attempt: int) -> bool:
    """Whether this answer comes late."""
    return draw(config.seed, "slow", f"{request_key}\x1f{attempt}") < config.slow


def draw(seed: int, purpose: str, key: str) -> float:
    """A number in [0, 1) that depends on its arguments alone."""
    digest = hashlib.blake2b(f"{seed}\x1f{purpose}\x1f{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
