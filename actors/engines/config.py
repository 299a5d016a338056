"""Settings of the engines, and which of them a run uses. No model is loaded and nobody is asked here."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from reasoning.errors import ConfigError
from reasoning.search.config import SearchConfig
from reasoning.search.parts import needs_likelihood

_STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

Dtype = Literal["float32", "bfloat16", "float16"]


class EngineKind(StrEnum):
    TRANSFORMERS = "transformers"
    """Runs the model in the process, through transformers."""
    VLLM = "vllm"
    """Runs the model in the process, through vLLM, which has to be installed (docs/engines.md)."""
    OPENAI = "openai"
    """Asks an OpenAI-compatible endpoint: vLLM, SGLang or llama.cpp servers, hosted models."""


class Continuing(StrEnum):
    """How an endpoint is brought to go on with an assistant's turn that has begun."""

    AUTO = "auto"
    """Asks the endpoint what it is: ``continue`` for vLLM and SGLang, ``prefill`` for llama.cpp, else ``instruct``."""
    CONTINUE = "continue"
    """A last assistant message, ``continue_final_message`` and no ``add_generation_prompt``."""
    PREFILL = "prefill"
    """A last assistant message alone."""
    INSTRUCT = "instruct"
    """The text so far and what is wanted next stand in the user's turn: the last resort."""


class TransformersSettings(BaseModel):
    """What the engine in this process is told beyond the model, its number format and where it runs."""

    model_config = _STRICT

    compile: bool = False
    """Whether steps of generation are compiled (torch.compile): a start of up to minutes, then quicker steps.
    A CPU needs a C++ compiler for it."""
    max_rows: int = Field(default=64, ge=1)
    """Continuations that are generated side by side; the others wait."""
    max_prefill_tokens: int = Field(default=4096, ge=1)
    """Prompt tokens computed between two steps of generation, at least one request's."""
    prefix_cache_bytes: int = Field(default=256 * 1024**2, ge=0)
    """Room for keys and values of prefixes that may come again."""
    image_cache_bytes: int = Field(default=256 * 1024**2, ge=0)
    """Room for encoded images; the last one stays, however large."""
    max_pixels: int = Field(default=64_000_000, ge=1)
    """Images with more pixels are refused."""


class TransformersEngineConfig(TransformersSettings):
    """The engine that runs a model in this process, through transformers."""

    model: str
    """Folder (or hub name) of the model with its processor and chat template."""
    device: str = "cpu"
    """Where the model runs: ``cpu``, ``cuda``, ``cuda:1`` …"""
    dtype: Dtype = "float32"
    """Number format of weights and activations."""
    threads: int = Field(default=1, ge=1)
    """Torch threads of this process. On shared cores one is fastest, two can be ten times slower."""


class OpenAIEngineConfig(BaseModel):
    """The engine that asks an OpenAI-compatible endpoint."""

    model_config = _STRICT

    base_url: str
    """The endpoint up to and with ``/v1``."""
    model: str
    """The model's name there."""
    api_key_env: str | None = None
    """The environment variable that holds the key, on the machine that asks; none for servers that ask for none."""
    api_key_file: str | None = None
    """Or the file that holds it, such as a mounted secret."""
    continuation: Continuing = Continuing.AUTO
    """How the endpoint is brought to go on with a text."""
    max_choices: int = Field(default=128, ge=1)
    """Candidates asked for in one call (``n``); 1 makes each a call of its own, with its own seed."""
    logprobs: bool = True
    """Whether log-probabilities are asked for. Without them nothing is ranked by likelihood, and judges answer
    in words."""
    max_in_flight: int = Field(default=64, ge=1, le=1000)
    """Calls one engine has open at a time."""
    timeout_s: float = Field(default=300.0, gt=0)
    """How long one call may take."""
    max_retries: int = Field(default=5, ge=0)
    """How often a call is repeated after a rate limit, a server error or a lost connection."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields added to every call, such as ``chat_template_kwargs``; for no secret, since runs record it."""
    prompt_dollars_per_million: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens."""
    cached_dollars_per_million: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens that the endpoint had cached; none: as any prompt token."""
    generated_dollars_per_million: float = Field(default=0.0, ge=0)
    """Price of a million generated tokens."""

    @model_validator(mode="after")
    def _check(self) -> OpenAIEngineConfig:
        if not self.base_url.startswith(("http://", "https://")):
            raise ConfigError(f"openai.base_url must begin with http:// or https://, got {self.base_url!r}")
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ConfigError(
                f"openai.api_key_env {self.api_key_env!r} and api_key_file {self.api_key_file!r} exclude each other"
            )
        return self


class VllmSettings(BaseModel):
    """What vLLM is told beyond the model and its number format."""

    model_config = _STRICT

    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt and answer together, in tokens; none: what the model was made for."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU's memory for weights and cache."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs the model is split over; a replica must hold as many."""
    max_num_seqs: int | None = Field(default=None, ge=1)
    """Continuations generated side by side; none leaves it to vLLM."""
    block_size: int | None = Field(default=None, ge=1)
    """Tokens a cache block; prefixes are shared in whole blocks. None leaves it to vLLM; CPUs need 32."""
    enforce_eager: bool = False
    """Skips the capture of CUDA graphs: a quicker start, slower answers."""
    max_pixels: int = Field(default=64_000_000, ge=1)
    """Images with more pixels are refused."""


class VllmEngineConfig(BaseModel):
    """The engine that runs a model in this process, through vLLM."""

    model_config = _STRICT

    model: str
    """Folder (or hub name) of the model with its processor and chat template."""
    dtype: Dtype = "float32"
    """Number format of weights and activations."""
    settings: VllmSettings = VllmSettings()
    """What else vLLM is told."""


EngineConfig = TransformersEngineConfig | VllmEngineConfig | OpenAIEngineConfig


class EngineChoice(BaseModel):
    """Which engine a run uses. What is said of ``model`` and of where it runs stands beside it."""

    model_config = _STRICT

    engine: EngineKind = EngineKind.TRANSFORMERS
    """What runs the model, or whom to ask for it."""
    openai: OpenAIEngineConfig | None = None
    """``engine: openai``: the endpoint; ``model``, ``device``, ``dtype`` and ``threads`` say nothing then."""
    transformers: TransformersSettings = TransformersSettings()
    """``engine: transformers``: its caches and batches."""
    vllm: VllmSettings = VllmSettings()
    """``engine: vllm``: what vLLM is told."""

    @model_validator(mode="after")
    def _names_one_engine(self) -> Self:
        check_choice(self.engine.value, self.openai)
        return self


def check_choice(engine: str, openai: OpenAIEngineConfig | None) -> None:
    """Raise ConfigError when an endpoint is described that would not be asked."""
    if openai is not None and engine != EngineKind.OPENAI:
        raise ConfigError(f"openai.base_url is {openai.base_url!r} and engine {engine!r}; set engine to openai")


def check_search(search: SearchConfig, openai: OpenAIEngineConfig | None, *, name: str) -> None:
    """Raise ConfigError when ``search``, called ``name``, ranks by what the endpoint is not asked for."""
    if openai is not None and not openai.logprobs and needs_likelihood(search):
        raise ConfigError(
            f"{name} ranks by likelihood and openai.logprobs is false; take another selector or scorer, or let the "
            "endpoint give log-probabilities"
        )


def engine_config(
    kind: EngineKind,
    *,
    model: str | None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    threads: int = 1,
    transformers: TransformersSettings | None = None,
    vllm: VllmSettings | None = None,
    openai: OpenAIEngineConfig | None = None,
) -> EngineConfig:
    """The settings of the engine that the flat fields of a run's configuration name.

    ``model`` is a folder or hub name; an endpoint's model is named in ``openai``. Raises ConfigError
    when what the engine needs is not given.
    """
    if kind is EngineKind.OPENAI:
        if openai is None:
            raise ConfigError("engine is 'openai' and there is no endpoint; set openai.base_url and openai.model")
        return openai
    if model is None:
        raise ConfigError(f"engine is {kind.value!r} and there is no model; set model to a model's folder")
    if kind is EngineKind.VLLM:
        return VllmEngineConfig(model=model, dtype=dtype, settings=vllm or VllmSettings())
    told = (transformers or TransformersSettings()).model_dump()
    return TransformersEngineConfig(model=model, device=device, dtype=dtype, threads=threads, **told)
