"""What the search asks of the world: continue a text, or choose among next words.

An in-process engine, a Ray Serve handle, an HTTP endpoint and the scripted fakes in
``reasoning.testing`` all satisfy these; the search does not know which one answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol

from reasoning.errors import ConfigError
from reasoning.ledger import Usage
from reasoning.records import ImageRef, Question, Turn
from reasoning.stages import Stage


class StopReason(StrEnum):
    """Why a generation ended."""

    TAG = "tag"
    """A stop text was generated."""
    EOS = "eos"
    """The model ended its turn."""
    LENGTH = "length"
    """``max_new_tokens`` was reached."""
    ABORTED = "aborted"
    """Cancelled, or the engine failed on this row."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. The published search uses temperature 0.6, top_p 0.9, 2048 tokens."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    temperature: float = 0.6
    """0 means greedy: the most probable token, seeds unused."""
    top_p: float = 0.9
    """Nucleus: the smallest set of tokens with this much probability."""
    max_new_tokens: int = 2048
    """The most tokens one request may generate a candidate."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise ConfigError(f"Sampling.temperature must lie in [0, 10], got {self.temperature}; 0 is greedy")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"Sampling.top_p must lie in (0, 1], got {self.top_p}; 1 keeps every token")
        if self.max_new_tokens < 1:
            raise ConfigError(f"Sampling.max_new_tokens must be at least 1, got {self.max_new_tokens}")


@dataclass(frozen=True, kw_only=True)
class ContinuationRequest:
    """Continue ``prefix``, the assistant's turn so far, once for each seed."""

    prompt: str
    """The user's turn as text; an image, if any, stands before it."""
    image: ImageRef | None
    prefix: str
    """What the assistant has written already; empty at the start."""
    stops: tuple[str, ...]
    """Generation ends when one of these texts has been generated (it is kept); none: at the end of turn."""
    seeds: tuple[int, ...]
    """One continuation each, in this order."""
    sampling: Sampling
    stage: Stage | None = None
    """The stage being written, for routers that keep replicas for each; None: the whole answer."""
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """One continuation: generated text only, stop text included where it was reached."""

    text: str
    stop: StopReason
    tokens: int
    logprob: float
    """Sum over the generated tokens of their log-probability under the model at temperature 1; nan when the
    engine gives none."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class ContinuationReply:
    """``continuations[i]`` belongs to ``request.seeds[i]``."""

    continuations: tuple[Continuation, ...]
    usage: Usage
    notes: tuple[str, ...] = ()
    """What the engine could not do as asked, and what it did instead."""


@dataclass(frozen=True, kw_only=True)
class ChoiceRequest:
    """Which of ``options`` comes next after ``prefix``? One forward pass, nothing is generated."""

    prompt: str
    image: ImageRef | None
    prefix: str
    options: tuple[str, ...]
    """Each must begin with a different token; only that first token is scored."""
    stage: Stage | None = None
    """The stage being judged; None: whole answers."""
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChoiceReply:
    """``logprobs[i]``: log-probability of ``options[i]``, over the whole vocabulary; nan when none could be read."""

    logprobs: tuple[float, ...]
    usage: Usage


@dataclass(frozen=True, kw_only=True)
class RewardRequest:
    """How good is this text? Of a stage, or of a whole answer."""

    question: Question
    stage: Stage | None
    """None: a whole answer."""
    prior: Mapping[Stage, str]
    """The stages written before it."""
    text: str


@dataclass(frozen=True, kw_only=True)
class RewardReply:
    """``score`` of any size, higher is better; nan when the model gave none."""

    score: float
    usage: Usage


class Generator(Protocol):
    """Writes continuations. Requests given together are worked on together."""

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        """Replies in the order of the requests; raises EngineError when the engine is lost."""
        ...


class Chooser(Protocol):
    """Scores next words. Requests given together are one batch."""

    async def choose(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        """Replies in the order of the requests; raises EngineError when the engine is lost."""
        ...


class Engine(Generator, Chooser, Protocol):
    """Both, as one model offers them."""


class Rewarder(Protocol):
    """A reward model. Requests given together are one batch."""

    async def reward(self, requests: Sequence[RewardRequest]) -> list[RewardReply]:
        """Replies in the order of the requests; raises EngineError when the model is lost."""
        ...
