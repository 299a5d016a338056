"""The wire form of a chat completion request: OpenAI's fields, and ours beside them.

Shapes and types only; what they mean is said in ``serve/chat_request.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from reasoning.search.config import (
    Pairing,
    PromptStyle,
    ScorerKind,
    SelectorKind,
    Strategy,
    UnreadableVerdict,
)
from reasoning.search.presets import Preset

_WIRE = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
_LENIENT = ConfigDict(frozen=True, extra="ignore")

# Fields of OpenAI and of other servers that many clients send by habit. They change nothing here
# and the reply says so in ``stagebeam.notes``.
IGNORED_FIELDS = frozenset(
    {
        "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "metadata", "min_p",
        "parallel_tool_calls", "presence_penalty", "prompt_cache_key", "reasoning_effort", "repetition_penalty",
        "response_format", "safety_identifier", "service_tier", "stop", "store", "tool_choice", "tools", "top_k",
        "top_logprobs", "user",
    }
)  # fmt: skip


class ImageUrl(BaseModel):
    model_config = _LENIENT

    url: str


class TextPart(BaseModel):
    model_config = _LENIENT

    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    model_config = _LENIENT

    type: Literal["image_url"]
    image_url: ImageUrl


Part: TypeAlias = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(BaseModel):
    model_config = _LENIENT

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]


class StreamOptions(BaseModel):
    model_config = _LENIENT

    include_usage: bool = False


class ChatBody(BaseModel):
    """One request. Fields not named here or in ``IGNORED_FIELDS`` are refused by name."""

    model_config = _WIRE

    model: str
    messages: list[Message]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    seed: int | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    preset: Preset | None = None
    """Ours from here on. The fields that a preset settles lie under those given beside it."""
    strategy: Strategy | None = None
    samples: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=1)
    samples_by_stage: tuple[int, ...] | None = None
    width_by_stage: tuple[int, ...] | None = None
    subtrees: int | None = Field(default=None, ge=1)
    selector: SelectorKind | None = None
    scorer: ScorerKind | None = None
    deadline_s: float | None = Field(default=None, gt=0)
    token_budget: int | None = Field(default=None, ge=1)
    stop_on_agreement: bool | None = None
    prompt_style: PromptStyle | None = None
    judge_both_orders: bool | None = None
    pairing: Pairing | None = None
    unreadable_verdict: UnreadableVerdict | None = None
    check_reasoning: bool | None = None
    include_stages: bool = False
    """The four stage texts in ``stagebeam.stages``."""
    include_trace: bool = False
    """Every candidate and comparison in ``stagebeam.trace``."""


def split_ignored(raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The fields that count, and the names of those that were given and change nothing."""
    ignored = sorted(name for name in raw if name in IGNORED_FIELDS and raw[name] is not None)
    return {name: value for name, value in raw.items() if name not in IGNORED_FIELDS}, ignored
