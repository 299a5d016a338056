"""What ``score``, and what is made of it, is told: questions, models, searches. No input or output here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, JsonValue, model_validator

from actors.engines.config import Dtype, EngineChoice, EngineConfig, check_search, engine_config
from actors.fingerprints import models_of
from actors.rewards.config import RewardConfig
from reasoning.errors import ConfigError
from reasoning.search.config import SearchConfig
from reasoning.search.parts import needs_rewarder

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class OfflineConfig(EngineChoice):
    """What is answered, by which models and with how many actors; how, say the configurations made of it."""

    input: str
    """Question Parquet: a folder or one file."""
    output: str
    """Run folder: ``results/<search>/part-*.parquet``, ``run.json`` and the markers."""
    model: str | None = None
    """Folder of the model that answers and judges; with ``engine: openai`` it is named in ``openai``."""
    judge_model: str | None = None
    """Folder of a model of its own that judges, or its name at the endpoint; None: the one that answers."""
    reward: RewardConfig | None = None
    """The reward model, for searches with ``scorer: reward``."""
    actors: int = Field(default=1, ge=1)
    """Model replicas."""
    cpus_per_actor: float = Field(default=1.0, ge=0)
    """Logical CPUs one replica holds."""
    gpus_per_actor: float = Field(default=0.0, ge=0)
    """GPUs one replica holds; above 0 the model is loaded onto the GPU."""
    threads: int = Field(default=1, ge=1)
    """Threads a replica computes with."""
    dtype: Dtype = "float32"
    """Floating-point type of the model's weights."""
    in_flight: int = Field(default=32, ge=1)
    """Questions one replica works on at the same time; they share its batches."""
    shard_questions: int = Field(default=64, ge=1)
    """Questions a shard: what is committed together, and at most lost by an interruption."""
    limit: int | None = Field(default=None, ge=1)
    """Only the first so many questions."""

    @property
    def answerer(self) -> EngineConfig:
        """What each replica loads, or whom it asks."""
        return engine_config(
            self.engine,
            model=self.model,
            device="cuda" if self.gpus_per_actor > 0 else "cpu",
            dtype=self.dtype,
            threads=self.threads,
            transformers=self.transformers,
            vllm=self.vllm,
            openai=self.openai,
        )

    @property
    def judge(self) -> EngineConfig | None:
        """What judges instead; None: the engine that answers."""
        return None if self.judge_model is None else self.answerer.model_copy(update={"model": self.judge_model})

    def models(self) -> dict[str, JsonValue]:
        """What tells the models apart, for the identity of a run; raises InputError where one is not there."""
        return models_of(engine=self.answerer, judge=self.judge, reward=self.reward)

    @model_validator(mode="after")
    def _has_an_answerer(self) -> Self:
        _ = self.answerer
        return self


class ScoreConfig(OfflineConfig):
    """Questions and the searches that answer them."""

    searches: dict[str, SearchConfig]
    """Name to search; the name is its folder's and its row's in every table."""
    calibration: Path | None = None
    """A file of ``stagebeam calibrate``: sets the cutoff of the retracing searches that score by what it is for."""

    @model_validator(mode="after")
    def _check(self) -> ScoreConfig:
        if not self.searches:
            raise ConfigError("ScoreConfig.searches is empty; name at least one search")
        for name in self.searches:
            if not _FOLDER_NAME.fullmatch(name):
                raise ConfigError(
                    f"ScoreConfig.searches: {name!r} cannot name a folder; take letters, digits, '.', '_', '-'"
                )
            check_search(self.searches[name], self.openai, name=f"ScoreConfig.searches.{name}")
            if needs_rewarder(self.searches[name]) and self.reward is None:
                raise ConfigError(
                    f"ScoreConfig.searches.{name} scores by a reward model and none is configured; set reward.kind and "
                    "reward.model (or reward.url)"
                )
        return self
