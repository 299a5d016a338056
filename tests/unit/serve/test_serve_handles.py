"""Requests find the pool of their stage; what dies is asked again; what is cancelled stays so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from reasoning.errors import EngineError
from reasoning.protocols import ChoiceRequest
from reasoning.stages import STAGES, Stage
from serve.handles import HandleEngine, call_replica, route_all, route_stages

Work = Callable[[Any], Any]


class FakeResponse:
    def __init__(self, work: Any) -> None:
        self._work = work
        self.is_cancelled = False

    def __await__(self) -> Generator[Any, None, Any]:
        return self._work.__await__()  # type: ignore[no-any-return]

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeHandle:
    """Answers with ``work``; remembers each call."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.calls: list[Any] = []
        self.responses: list[FakeResponse] = []

    def options(self, *, method_name: str) -> FakeHandle:
        return self

    def remote(self, *args: Any) -> FakeResponse:
        self.calls.append(args[0])
        self.responses.append(FakeResponse(self._work(args[0])))
        return self.responses[-1]


def choice(stage: Stage | None, prompt: str) -> ChoiceRequest:
    return ChoiceRequest(prompt=prompt, image=None, prefix="", options=("1", "2"), stage=stage)


def named(name: str) -> FakeHandle:
    async def work(requests: Any) -> Any:
        return [f"{name}:{request.prompt}" for request in requests]

    return FakeHandle(work)


def test_requests_go_to_their_stage_and_replies_keep_their_order() -> None:
    pools = {stage: named(stage) for stage in STAGES}
    engine = HandleEngine(route_stages(pools))
    asked = [choice(Stage.CAPTION, "a"), choice(Stage.SUMMARY, "b"), choice(Stage.CAPTION, "c"), choice(None, "d")]
    replies = asyncio.run(engine.choose(asked))
    assert [str(reply) for reply in replies] == ["CAPTION:a", "SUMMARY:b", "CAPTION:c", "REASONING:d"]
    assert len(pools[Stage.CAPTION].calls) == 1


def test_shared_pool_gets_one_call_for_all_stages() -> None:
    pool = named("all")
    asyncio.run(HandleEngine(route_all(pool)).choose([choice(stage, "x") for stage in (*STAGES, None)]))
    assert [len(call) for call in pool.calls] == [5]


def test_dead_replica_is_asked_again() -> None:
    deaths = iter([True, True, False])

    async def work(_: Any) -> str:
        if next(deaths):
            raise ActorDiedError()
        return "alive"

    handle = FakeHandle(work)
    assert asyncio.run(call_replica(handle, "choose", [], pause_s=0)) == "alive"
    assert len(handle.calls) == 3


def test_replicas_that_all_die_are_an_engine_error() -> None:
    async def work(_: Any) -> str:
        raise ActorDiedError()

    with pytest.raises(EngineError, match="2 times"):
        asyncio.run(call_replica(FakeHandle(work), "choose", [], attempts=2, pause_s=0))


def test_error_of_the_engine_itself_is_not_repeated() -> None:
    async def work(_: Any) -> str:
        raise EngineError("cannot")

    handle = FakeHandle(work)
    with pytest.raises(EngineError, match="cannot"):
        asyncio.run(call_replica(handle, "choose", []))
    assert len(handle.calls) == 1


def test_cancelled_search_cancels_its_calls() -> None:
    all_called = asyncio.Event()

    async def work(requests: Any) -> None:
        if requests[0].stage is STAGES[-1]:
            all_called.set()
        await asyncio.Event().wait()

    pools = {stage: FakeHandle(work) for stage in STAGES}

    async def go() -> None:
        search = asyncio.ensure_future(HandleEngine(route_stages(pools)).choose([choice(s, "x") for s in STAGES]))
        await asyncio.wait_for(all_called.wait(), 5)
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search
        await asyncio.sleep(0)

    asyncio.run(go())
    assert all(pool.responses[0].is_cancelled for pool in pools.values())
