"""The governor as an actor that Ray restarts, asked by clients of two kinds."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
import ray

from actors.call_records import PaidTotals
from actors.governing.terms import CallCost, CallEnd, CallResult
from actors.governor import GovernedPace, LimitsConfig, start_governor
from cluster.connect import RayCluster
from reasoning.errors import BudgetReachedError, StagebeamError

# Ray's workers cannot import the tests.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
COST = CallCost(tokens=10, dollars=1.0)


async def spend(pace: GovernedPace, calls: int, begun: asyncio.Event | None = None) -> int:
    """How many of ``calls`` could be made before the budget was reached."""

    async def one() -> None:
        permit = await pace.permit(COST)
        if begun is not None:
            begun.set()
        await asyncio.sleep(0.01)
        pace.settle(permit, CallResult(end=CallEnd.ANSWERED, cost=COST))

    outcomes = await asyncio.gather(*(one() for _ in range(calls)), return_exceptions=True)
    assert all(one is None or isinstance(one, BudgetReachedError) for one in outcomes)
    return outcomes.count(None)


def test_clients_in_several_processes_share_one_budget(ray_local: RayCluster) -> None:
    @ray.remote(num_cpus=0)
    class Client:
        def __init__(self, handle: Any) -> None:
            self.pace = GovernedPace(handle)

        async def spend(self, calls: int) -> int:
            spent = await spend(self.pace, calls)
            await self.pace.close()
            return spent

    with start_governor(LimitsConfig(budget_dollars=50.0), paid=PaidTotals(dollars=10.0)) as governor:
        clients = [Client.remote(governor.handle) for _ in range(2)]  # type: ignore[attr-defined]
        assert sum(ray.get([client.spend.remote(30) for client in clients])) == 40
        summary = governor.summary()
    assert (summary.spent_dollars, summary.calls) == (40.0, 40)
    assert "limits.budget_dollars is $50" in summary.stopped


def test_a_governor_that_was_killed_comes_back_and_keeps_the_budget(ray_local: RayCluster) -> None:
    async def run(handle: Any) -> int:
        pace = GovernedPace(handle)
        first = await spend(pace, 12)
        ray.kill(handle, no_restart=False)
        second = await spend(pace, 30)
        await pace.close()
        return first + second

    with start_governor(LimitsConfig(budget_dollars=30.0)) as governor:
        assert asyncio.run(run(governor.handle)) == 30
        assert governor.summary().restarts == 1


def test_stopped_governor_lets_open_calls_end_and_no_more_begin(ray_local: RayCluster) -> None:
    async def run(governor: Any) -> None:
        pace = GovernedPace(governor.handle)
        permit = await pace.permit(COST)
        draining = asyncio.create_task(asyncio.to_thread(governor.stop_and_drain, 20.0))
        # The second is held back by the first until the word to stop has come.
        with pytest.raises(StagebeamError, match="being stopped"):
            await pace.permit(COST)
        pace.settle(permit, CallResult(end=CallEnd.ANSWERED, cost=COST))
        assert await draining == 0
        with pytest.raises(StagebeamError, match="being stopped"):
            pace.check()
        await pace.close()

    with start_governor(LimitsConfig(start_in_flight=1, max_in_flight=1)) as governor:
        asyncio.run(run(governor))
