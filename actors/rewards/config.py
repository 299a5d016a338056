"""Settings of a reward model. No model is loaded and no server asked here."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reasoning.errors import ConfigError


class RewardKind(StrEnum):
    SEQUENCE_CLASSIFICATION = "sequence_classification"
    """A transformers model with one output for the whole text."""
    TOKEN_CLASSIFICATION = "token_classification"
    """A transformers model with an output at each token, read at the end of each step: a process reward model."""
    HTTP = "http"
    """A server that scores texts; see ``HttpForm``."""


class StepJoin(StrEnum):
    """How the scores of a text's steps become one; all but ``last`` and ``min`` work on probabilities."""

    LAST = "last"
    MIN = "min"
    MEAN = "mean"
    PRODUCT = "product"


class HttpForm(StrEnum):
    STAGEBEAM = "stagebeam"
    """Our own: question, choices, stages and picture as fields; docs/rewards.md has it."""
    CLASSIFY = "classify"
    """``/classify`` as vLLM and SGLang serve it: plain texts in, class probabilities out."""


class RewardConfig(BaseModel):
    """One reward model. Its score is a logit, higher is better: raw with one label, else the log-odds of ``label``."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: RewardKind
    """What it is."""
    model: str | None = None
    """Folder (or hub name) of the model; with ``http`` the model's name at the server, where it wants one."""
    url: str | None = None
    """``http``: the address that texts are posted to."""
    label: str | int | None = None
    """The name or number of the label that means "good"; None: the only one, else the last."""
    join: StepJoin = StepJoin.LAST
    """``token_classification``: how the scores of a text's steps become one."""
    step_separator: str = Field(default="\n", min_length=1)
    """``token_classification``: written after each step, and the score read at its last token, as in training.
    TRL's default is a line break; Qwen2.5-Math-PRM has ``<extra_0>``."""
    device: str = "cpu"
    """Where the model runs: ``cpu``, ``cuda``, ``cuda:1`` …"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of its weights; scores are computed in float32 from its logits."""
    batch_size: int = Field(default=16, ge=1)
    """Texts in one forward pass, or in one HTTP call."""
    max_tokens: int = Field(default=4096, ge=1)
    """A longer text gets no score; it is not cut."""
    form: HttpForm = HttpForm.STAGEBEAM
    """``http``: what the server reads and writes."""
    with_image: bool = False
    """``http``: send the picture too, as a data URL."""
    api_key_env: str | None = None
    """``http``: the environment variable that holds the key; none for servers that ask for none."""
    timeout_s: float = Field(default=60.0, gt=0)
    """``http``: how long one call may take."""
    max_retries: int = Field(default=5, ge=0)
    """``http``: how often a call is repeated after a rate limit, a server error, a time-out or a lost connection."""
    max_in_flight: int = Field(default=8, ge=1)
    """``http``: calls open at a time."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.kind is RewardKind.HTTP:
            if self.url is None or not self.url.startswith(("http://", "https://")):
                raise ConfigError(f"RewardConfig.url must be an http(s) address for kind 'http', got {self.url!r}")
        elif self.model is None:
            raise ConfigError(f"RewardConfig.model is missing; kind {self.kind.value!r} needs a model's folder")
        elif self.url is not None:
            raise ConfigError(f"RewardConfig.url is for kind 'http'; {self.kind.value!r} loads `model` itself")
        if self.form is HttpForm.CLASSIFY and self.with_image:
            raise ConfigError("RewardConfig.with_image: form 'classify' takes texts only; use form 'stagebeam'")
        if self.form is HttpForm.CLASSIFY and isinstance(self.label, str):
            raise ConfigError(f"RewardConfig.label {self.label!r}: form 'classify' needs the label's number")
        return self
