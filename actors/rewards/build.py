"""The reward model that a configuration names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from actors.rewards.config import RewardConfig, RewardKind
from cluster.secrets import read_secret
from reasoning.protocols import Rewarder


class OwnedRewarder(Rewarder, Protocol):
    """A rewarder that whoever built it closes."""

    async def aclose(self) -> None:
        """Free what it holds."""
        ...


def build_rewarder(config: RewardConfig, *, threads: int = 1) -> OwnedRewarder:
    """Loads the model or opens the client; raises EngineError when that fails, ConfigError for a missing key."""
    match config.kind:
        case RewardKind.SEQUENCE_CLASSIFICATION | RewardKind.TOKEN_CLASSIFICATION:
            from actors.rewards.hf import HuggingFaceRewarder

            return HuggingFaceRewarder(config, threads=threads)
        case RewardKind.HTTP:
            from actors.rewards.endpoint import HttpRewarder

            return HttpRewarder(config, read_secret(config.api_key_env, wanted_by="RewardConfig.api_key_env"))


@asynccontextmanager
async def open_rewarder(config: RewardConfig | None) -> AsyncIterator[Rewarder | None]:
    """The reward model for the body of the ``async with``, None where none is configured."""
    if config is None:
        yield None
        return
    rewarder = build_rewarder(config)
    try:
        yield rewarder
    finally:
        await rewarder.aclose()
