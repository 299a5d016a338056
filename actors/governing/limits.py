"""How much of a teacher a whole run may use."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LimitsConfig(BaseModel):
    """What all annotation actors together keep to."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Calls begun in any minute, at most; none: no limit."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens of the calls begun in any minute, at most, prompts and replies; none: no limit."""
    max_in_flight: int | None = Field(default=None, ge=1)
    """Calls open at a time, at most; none: as many as the actors have room for."""
    start_in_flight: int = Field(default=32, ge=1)
    """Calls open at a time at first. The number doubles until the endpoint first refuses; then it is adapted."""
    decrease: float = Field(default=0.75, gt=0, lt=1)
    """What a refusal (429 or 5xx) leaves of the number, once in the time that a call takes."""
    budget_dollars: float | None = Field(default=None, gt=0)
    """What the run may cost, earlier parts of it included. A call begins only if the most it can cost still fits."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """The same in tokens, prompts and replies."""
    stop_error_rate: float = Field(default=0.9, gt=0, le=1)
    """The run ends when of the calls of ``stop_window_s`` so large a part fails: the endpoint is down."""
    stop_window_s: float = Field(default=60.0, gt=0)
    """How long it must have been so."""
    stop_min_calls: int = Field(default=20, ge=1)
    """So few calls in that time say nothing yet."""
