"""How the stand-in misbehaves: which fault, if any, a request meets.

Pure functions of the request and a seed: the same questions meet the same faults, in whatever
order and on whatever machine they are asked. There are two kinds: what is wrong with the answer
(``FaultName``), and what is wrong with its way over the wire (``TransportFault``).
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TypeVar

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
    # New ones go below: a question's fault depends on the order of those before it.
    CONTENT_FILTER = "content_filter"
    """Ends in the middle, finish reason ``content_filter``."""
    WRONG_TAGS = "wrong_tags"
    """Writes tags that were not asked for."""


class TransportFault(StrEnum):
    RATE_LIMITED = "rate_limited"
    """429 with Retry-After."""
    SERVER_ERROR = "server_error"
    """500, 502 or 503."""
    HANG = "hang"
    """Takes the request and never answers."""
    CUT_BODY = "cut_body"
    """Closes the connection in the middle of the reply."""
    EMPTY_CHOICES = "empty_choices"
    """Status 200 and no choice."""
    INVALID_JSON = "invalid_json"
    """Status 200 and a body that is no JSON."""
    SLOW_DRIP = "slow_drip"
    """A few bytes now and then."""
    GARBAGE_TYPE = "garbage_type"
    """Status 200 and a page of HTML, as a proxy would."""


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
    content_filter: float = Field(default=0.0, ge=0, le=1)
    """Ends in the middle because of a content filter."""
    wrong_tags: float = Field(default=0.0, ge=0, le=1)
    """Writes other tags."""
    stubborn: float = Field(default=0.35, ge=0, le=1)
    """Of the questions and requests that meet a fault: those that meet it at every attempt, the last included."""
    rate_limited: float = Field(default=0.0, ge=0, le=1)
    """Turns a request away with 429 and Retry-After. This and the rates below are shares of requests."""
    burst_length: int = Field(default=1, ge=1)
    """With a request that is turned away by ``rate_limited`` so many in all, whatever the others are."""
    server_error: float = Field(default=0.0, ge=0, le=1)
    """Answers 500, 502 or 503."""
    hang: float = Field(default=0.0, ge=0, le=1)
    """Never answers."""
    cut_body: float = Field(default=0.0, ge=0, le=1)
    """Closes the connection in the middle of the reply."""
    empty_choices: float = Field(default=0.0, ge=0, le=1)
    """Sends no choice."""
    invalid_json: float = Field(default=0.0, ge=0, le=1)
    """Sends what is no JSON with status 200."""
    slow_drip: float = Field(default=0.0, ge=0, le=1)
    """Sends a few bytes now and then."""
    drip_s: float = Field(default=3.0, gt=0)
    """How long a reply drips."""
    garbage_type: float = Field(default=0.0, ge=0, le=1)
    """Sends a page of HTML with status 200."""
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
    ledger: str | None = None
    """A file to which a line is added for each chat request that is answered in full; see ``ledger.py``."""

    @model_validator(mode="after")
    def _check_rates(self) -> StandInConfig:
        for kind, names in (("", FaultName), ("transport ", TransportFault)):
            total = sum(float(getattr(self, name.value)) for name in names)
            if total > 1 + 1e-9:
                raise ValueError(f"the {kind}fault rates add up to {total:g}; at most 1")
        return self

    @property
    def has_transport_faults(self) -> bool:
        """Whether any request may meet a transport fault."""
        return any(getattr(self, name.value) for name in TransportFault)

    @classmethod
    def faultless(cls, seed: int = 0) -> StandInConfig:
        """A stand-in that never errs."""
        rates = {name.value: 0.0 for name in FaultName}
        return cls(seed=seed, rate_limits=0, server_errors=0, **rates)  # type: ignore[arg-type]


_Name = TypeVar("_Name", FaultName, TransportFault)


def fault_of(config: StandInConfig, request_key: str, attempt: int) -> FaultName | None:
    """The fault that attempt number ``attempt`` (from 0) at the question ``request_key`` meets."""
    if attempt > 0 and draw(config.seed, "stubborn", request_key) >= config.stubborn:
        return None
    return _chosen(config, FaultName, draw(config.seed, "fault", request_key))


def transport_fault_of(config: StandInConfig, request_key: str, tries: int) -> TransportFault | None:
    """The transport fault that a request meets which came ``tries`` times before."""
    if tries > 0 and draw(config.seed, "stubborn-transport", request_key) >= config.stubborn:
        return None
    return _chosen(config, TransportFault, draw(config.seed, "transport", request_key))


def _chosen(config: StandInConfig, names: type[_Name], left: float) -> _Name | None:
    """Of the faults one after the other, each as long as its rate, the one that ``left`` falls on."""
    for name in names:
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
