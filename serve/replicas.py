"""The plain classes that Ray Serve runs as replicas; ``serve/app.py`` makes deployments of them.

Each is made on its worker: models are loaded there and nothing heavy travels.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import cast

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from actors.images import check_image
from actors.rewards.build import build_rewarder
from reasoning.errors import ConfigError, EngineError
from reasoning.protocols import (
    ChoiceReply,
    ChoiceRequest,
    ContinuationReply,
    ContinuationRequest,
    RewardReply,
    RewardRequest,
)
from reasoning.records import Question
from reasoning.search.config import SearchConfig
from reasoning.search.result import SearchResult
from reasoning.stages import STAGES
from serve.api import build_api
from serve.config import PoolConfig, ServeConfig
from serve.engines import build_replica_engine
from serve.events import StageEvent
from serve.handles import LOST, Handle, HandleEngine, HandleRewarder, call_replica, route_all, route_stages
from serve.orchestrator import Orchestrator


class EngineReplica:
    """One engine with its model."""

    def __init__(self, config: ServeConfig, pool: PoolConfig) -> None:
        self._engine = build_replica_engine(config, pool)

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        return await self._engine.generate(requests)

    async def choose(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        return await self._engine.choose(requests)


class RewardReplica:
    """One reward model."""

    def __init__(self, config: ServeConfig, pool: PoolConfig) -> None:
        if config.reward is None:
            raise ConfigError("a replica of the reward pool was made for a service without a reward model")
        self._rewarder = build_rewarder(config.reward, threads=config.threads)

    async def reward(self, requests: Sequence[RewardRequest]) -> list[RewardReply]:
        return await self._rewarder.reward(requests)


class SearchReplica:
    """An orchestrator over engine pools: one pool for everything, or one a stage in writing order."""

    def __init__(self, generators: Sequence[Handle], judges: Sequence[Handle], reward: Handle | None = None) -> None:
        rewarder = None if reward is None else HandleRewarder(reward)
        self._orchestrator = Orchestrator(_engine(generators), _engine(judges), rewarder)

    async def answer(self, question: Question, search: SearchConfig) -> SearchResult:
        return await self._orchestrator.answer(question, search)

    async def stream(self, question: Question, search: SearchConfig) -> AsyncIterator[StageEvent | SearchResult]:
        async for item in self._orchestrator.stream(question, search):
            yield item


class Ingress:
    """Reads requests, asks an orchestrator, writes replies."""

    def __init__(self, config: ServeConfig, orchestrator: DeploymentHandle) -> None:
        self._api = build_api(config, HandleAnswerer(orchestrator), check_image)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._api


class HandleAnswerer:
    """The orchestrator deployment as the API's Answerer."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def answer(self, question: Question, search: SearchConfig) -> SearchResult:
        """A search that dies with its replica starts anew elsewhere: same seeds, same answer."""
        return cast("SearchResult", await call_replica(self._handle, "answer", question, search))

    async def stream(self, question: Question, search: SearchConfig) -> AsyncIterator[StageEvent | SearchResult]:
        """Not repeated when the replica dies, since events have been sent; raises EngineError."""
        response = self._handle.options(method_name="stream", stream=True).remote(question, search)
        try:
            async for item in response:
                yield cast("StageEvent | SearchResult", item)
        except LOST as error:
            raise EngineError("The replica that ran the search died; ask again") from error
        finally:
            response.cancel()


def _engine(pools: Sequence[Handle]) -> HandleEngine:
    if len(pools) == 1:
        return HandleEngine(route_all(pools[0]))
    return HandleEngine(route_stages(dict(zip(STAGES, pools, strict=True))))
