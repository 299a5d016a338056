"""What a service is made of: the model, its deployments, its limits. No input or output here."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from actors.engines.config import (
    EngineConfig,
    OpenAIEngineConfig,
    TransformersSettings,
    VllmSettings,
    check_choice,
    check_search,
    engine_config,
)
from actors.engines.config import EngineKind as SharedKind
from actors.rewards.config import RewardConfig
from reasoning.errors import ConfigError
from reasoning.search.config import SearchConfig
from reasoning.search.parts import needs_rewarder
from reasoning.stages import FourStages, Stage

_STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
_ANSWERS = tuple(
    FourStages(
        summary="I will look and count." + extra,
        caption="The image shows a scripted scene." + extra,
        reasoning="Nothing was looked at: this is the scripted engine." + extra,
        conclusion=conclusion,
    ).render()
    for extra, conclusion in (("", "no"), (" Then I will count again.", "yes, it is"))
)


class Topology(StrEnum):
    PER_STAGE = "per_stage"
    """A generator deployment and a judge deployment for each of the four stages."""
    SHARED = "shared"
    """One pool of engines for every stage, for generating and for judging."""


class EngineKind(StrEnum):
    """``actors.engines.config.EngineKind`` and a stand-in."""

    TRANSFORMERS = "transformers"
    """Loads ``model`` from disk."""
    VLLM = "vllm"
    """Loads ``model`` from disk, through vLLM."""
    OPENAI = "openai"
    """Asks an endpoint; nothing is loaded."""
    SCRIPTED = "scripted"
    """A stand-in that answers any question with fixed texts; no model is loaded."""


class PoolConfig(BaseModel):
    """One engine deployment: how many replicas, and what each takes and may do at once."""

    model_config = _STRICT

    replicas: int = Field(default=1, ge=1)
    """Processes, each with a copy of the model."""
    num_cpus: float = Field(default=0.1, ge=0)
    """Cores reserved for each; a fraction lets several share a core."""
    num_gpus: float = Field(default=0, ge=0)
    """GPUs reserved for each; a fraction lets several share one."""
    max_ongoing_requests: int = Field(default=64, ge=1)
    """Calls in flight in one replica; they share its decode batches."""
    model: Path | None = None
    """A model of its own; None: the service's."""


class RequestLimits(BaseModel):
    """What one request may ask for."""

    model_config = _STRICT

    image_bytes: int = Field(default=20_000_000, ge=1)
    """Largest encoded image; above it the answer is 413."""
    question_chars: int = Field(default=16_000, ge=1)
    """Longest text of all turns together; above it the answer is 413."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Most tokens a candidate may take; a client that asks for more is given this."""
    samples: int = Field(default=16, ge=1)
    """Most candidates; a client that asks for more is refused."""
    image_hosts: tuple[str, ...] = ()
    """Hosts from which http(s) image URLs are fetched; none by default, so that a client cannot
    make the server call addresses of its choice."""
    fetch_timeout_s: float = Field(default=10, gt=0)
    """Time for fetching an image."""


class ScriptConfig(BaseModel):
    """How the ``scripted`` engine behaves."""

    model_config = _STRICT

    answers: tuple[str, ...] = Field(default=_ANSWERS, min_length=1)
    """What it writes: the n-th candidate is the n-th of these, in turn."""
    delay_s: float = Field(default=0, ge=0)
    """Time each call takes."""


class ServeConfig(BaseModel):
    """A service: one model behind an OpenAI-compatible address."""

    model_config = _STRICT

    model: Path | None = None
    """Folder of the servable model; not read by the scripted engine, nor with an endpoint."""
    engine: EngineKind = EngineKind.TRANSFORMERS
    """What runs the model, or whom to ask for it."""
    openai: OpenAIEngineConfig | None = None
    """``engine: openai``: the endpoint. A pool's ``model`` is another name there."""
    transformers: TransformersSettings = TransformersSettings()
    """``engine: transformers``: its caches and batches."""
    vllm: VllmSettings = VllmSettings()
    """``engine: vllm``: what vLLM is told."""
    device: str = "cpu"
    """Where: ``cpu``, ``cuda``."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of each engine; more than one is slower on a shared machine."""
    script: ScriptConfig = ScriptConfig()
    """For the scripted engine alone."""
    served_model_name: str = Field(default="stagebeam", min_length=1)
    """The name under which clients ask for the model."""
    host: str = "127.0.0.1"
    """Address to listen on; the service does not authenticate, so think before opening it."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""
    topology: Topology = Topology.PER_STAGE
    """A deployment for each stage, or one pool for all."""
    pool: PoolConfig = PoolConfig()
    """The shared pool; with ``per_stage`` every deployment that has no entry of its own."""
    generators: dict[Stage, PoolConfig] = Field(default_factory=dict)
    """``per_stage``: generators that differ from ``pool``."""
    judges: dict[Stage, PoolConfig] = Field(default_factory=dict)
    """``per_stage``: judges that differ from ``pool``."""
    judge_model: Path | None = None
    """A model of its own that judges: in the judges' pools that name none, with ``shared`` in a pool of its own."""
    reward: RewardConfig | None = None
    """A reward model, for searches that score by one; a deployment of its own."""
    reward_pool: PoolConfig = PoolConfig()
    """Its replicas; ``model`` is said in ``reward``."""
    calibration: Path | None = None
    """A file of ``stagebeam calibrate``: the cutoff of retracing searches, and the scores that are expected."""
    orchestrator_replicas: int = Field(default=1, ge=1)
    """Processes that run searches; they hold no model."""
    ingress_replicas: int = Field(default=1, ge=1)
    """Processes that read requests and write replies."""
    search: SearchConfig = Field(default_factory=SearchConfig)
    """How a question is answered when the request does not say."""
    limits: RequestLimits = RequestLimits()
    """What one request may ask for."""
    start_timeout_s: float = Field(default=300, gt=0)
    """How long models may take to load before the start is given up."""

    @property
    def answerer(self) -> EngineConfig:
        """What the engines of the pools load, or whom they ask, where a pool names no model of its own."""
        return engine_config(
            SharedKind(self.engine.value),
            model=None if self.model is None else str(self.model),
            device=self.device,
            dtype=self.dtype,
            threads=self.threads,
            transformers=self.transformers,
            vllm=self.vllm,
            openai=self.openai,
        )

    def engine_of(self, pool: PoolConfig) -> EngineConfig:
        """What one replica of ``pool`` loads, or whom it asks; not for the scripted engine."""
        return self.answerer if pool.model is None else self.answerer.model_copy(update={"model": str(pool.model)})

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_choice(self.engine.value, self.openai)
        check_search(self.search, self.openai, name="ServeConfig.search")
        if self.engine is not EngineKind.SCRIPTED:
            _ = self.answerer
        if self.topology is Topology.SHARED and (self.generators or self.judges):
            raise ConfigError(
                "ServeConfig.generators and judges are for topology 'per_stage'; 'shared' uses pool alone"
            )
        if needs_rewarder(self.search) and self.reward is None:
            raise ConfigError(
                "ServeConfig.search scores by a reward model and none is configured; set reward.kind and reward.model "
                "(or reward.url)"
            )
        if self.reward_pool.model is not None:
            raise ConfigError(
                f"ServeConfig.reward_pool.model is {str(self.reward_pool.model)!r}; say it in reward.model"
            )
        if self.search.samples > self.limits.samples:
            raise ConfigError(
                f"ServeConfig.search.samples is {self.search.samples}, above limits.samples {self.limits.samples}"
            )
        return self
