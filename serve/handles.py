"""A pool of engine replicas behind Serve handles, as the Engine that the search asks.

A replica that dies takes its calls in flight with it and Serve does not repeat them. Every call
here carries its seeds and changes nothing, so it is simply asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from ray.exceptions import RayActorError, WorkerCrashedError
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError

from cluster.logs import get_logger
from reasoning.errors import EngineError
from reasoning.protocols import (
    ChoiceReply,
    ChoiceRequest,
    ContinuationReply,
    ContinuationRequest,
    RewardReply,
    RewardRequest,
)
from reasoning.stages import Stage

WHOLE_ANSWERS = Stage.REASONING
"""Where ``per_stage`` sends whole answers: most of their tokens are reasoning."""

LOST = (RayActorError, WorkerCrashedError, ReplicaUnavailableError)
"""A replica or its process is gone; the call may or may not have run."""
_log = get_logger(__name__)

RequestT = TypeVar("RequestT", ContinuationRequest, ChoiceRequest)


class Response(Awaitable[Any], Protocol):
    """What a handle's ``remote`` gives."""

    def cancel(self) -> None: ...


class Handle(Protocol):
    """As much of ``ray.serve.handle.DeploymentHandle`` as is used."""

    def options(self, *, method_name: str) -> Handle: ...

    def remote(self, *args: Any) -> Response: ...


class HandleEngine:
    """Sends each request to the pool of its stage; requests of one pool travel as one call.

    ``pools`` has an entry for every stage and one under None for whole answers; with the shared
    topology all are the same handle.
    """

    def __init__(self, pools: Mapping[Stage | None, Handle]) -> None:
        self._pools = pools

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        return cast("list[ContinuationReply]", await self._spread("generate", requests))

    async def choose(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        return cast("list[ChoiceReply]", await self._spread("choose", requests))

    async def _spread(self, method: str, requests: Sequence[RequestT]) -> list[Any]:
        """Replies in the order of the requests, all pools at work at once."""
        groups: dict[int, tuple[Handle, list[int]]] = {}
        for place, request in enumerate(requests):
            pool = self._pools[request.stage]
            groups.setdefault(id(pool), (pool, []))[1].append(place)
        calls = [
            asyncio.ensure_future(call_replica(pool, method, [requests[place] for place in places]))
            for pool, places in groups.values()
        ]
        try:
            answers = await asyncio.gather(*calls)
        except BaseException:
            for call in calls:
                call.cancel()
            raise
        replies: list[Any] = [None] * len(requests)
        for (_, places), answer in zip(groups.values(), answers, strict=True):
            for place, reply in zip(places, answer, strict=True):
                replies[place] = reply
        return replies


class HandleRewarder:
    """A pool of reward models as the Rewarder that the search asks."""

    def __init__(self, pool: Handle) -> None:
        self._pool = pool

    async def reward(self, requests: Sequence[RewardRequest]) -> list[RewardReply]:
        return cast("list[RewardReply]", await call_replica(self._pool, "reward", list(requests)))


async def call_replica(handle: Handle, method: str, *args: Any, attempts: int = 5, pause_s: float = 0.2) -> Any:
    """What ``method`` answers; asked again while replicas die, with growing pauses.

    Only for methods that may run twice. Cancelling the caller cancels the call. Raises EngineError
    when the replicas of all attempts died or the deployment is gone.
    """
    for attempt in range(1, attempts + 1):
        response = handle.options(method_name=method).remote(*args)
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except LOST as error:
            _log.warning("replica_lost", method=method, attempt=attempt, error=type(error).__name__)
            if attempt == attempts:
                raise EngineError(f"Replicas died {attempt} times during one call of {method}") from error
        except DeploymentUnavailableError as error:
            raise EngineError(f"The deployment for {method} is not there: {error}") from error
        await asyncio.sleep(pause_s * 2 ** (attempt - 1))
    raise EngineError(f"{method} was to be tried {attempts} times; at least once is needed")


def route_stages(pools: Mapping[Stage, Handle]) -> dict[Stage | None, Handle]:
    """``per_stage``'s routing table: each stage to its own pool, whole answers to WHOLE_ANSWERS's."""
    routes: dict[Stage | None, Handle] = dict(pools.items())
    routes[None] = pools[WHOLE_ANSWERS]
    return routes


def route_all(pool: Handle) -> dict[Stage | None, Handle]:
    """``shared``'s routing table: everything to one pool."""
    return {**dict.fromkeys(Stage, pool), None: pool}
