"""Waiting for leave, on an event loop; the governor answers when a test lets it."""

from __future__ import annotations

import asyncio

import pytest

from actors.governing.allowance import Allowance
from actors.governing.limits import LimitsConfig
from actors.governing.pace import FreePace, LocalPace, SyncedPace
from actors.governing.terms import NOTHING, Amounts, CallCost, CallEnd, CallResult, Grant, Paid, Report
from reasoning.errors import BudgetReachedError, ConfigError

ANSWERED = CallResult(end=CallEnd.ANSWERED)
COST = CallCost(tokens=10, dollars=0.5)


def test_calls_begin_in_the_order_in_which_they_asked() -> None:
    async def run() -> list[int]:
        begun: list[int] = []
        async with LocalPace(LimitsConfig(start_in_flight=1, max_in_flight=1)) as pace:

            async def call(number: int) -> None:
                permit = await pace.permit(COST)
                begun.append(number)
                pace.settle(permit, ANSWERED)

            await asyncio.gather(*(call(number) for number in range(20)))
        return begun

    assert asyncio.run(run()) == list(range(20))


def test_no_report_for_each_call() -> None:
    reports: list[Report] = []

    async def run() -> None:
        pace = LocalPace(LimitsConfig(start_in_flight=50))
        inner = pace._sync

        async def sync(report: Report) -> Grant:
            reports.append(report)
            return await inner(report)

        pace._sync = sync
        for _ in range(500):
            pace.settle(await pace.permit(COST), ANSWERED)
        await pace.close()

    asyncio.run(run())
    assert len(reports) < 20
    assert reports[-1].is_last
    assert reports[-1].tally.answered == 500


def test_budget_reached_is_raised_to_all_that_wait_and_names_the_way_on() -> None:
    async def run() -> tuple[list[object], float]:
        limits = LimitsConfig(budget_dollars=3.0)
        async with LocalPace(limits, paid=Paid(dollars=1.0)) as pace:

            async def call() -> None:
                pace.settle(await pace.permit(COST), CallResult(end=CallEnd.ANSWERED, cost=COST))

            outcomes = await asyncio.gather(*(call() for _ in range(10)), return_exceptions=True)
            with pytest.raises(BudgetReachedError):
                pace.check()
        return list(outcomes), pace.governor_summary().spent_dollars

    outcomes, spent = asyncio.run(run())
    assert outcomes.count(None) == 4
    assert spent == 2.0
    errors = [one for one in outcomes if one is not None]
    assert all(isinstance(one, BudgetReachedError) for one in errors)
    assert "run again to go on" in str(errors[0])


def test_a_cancelled_wait_gives_its_leave_back() -> None:
    async def run() -> None:
        async with LocalPace(LimitsConfig(start_in_flight=1, max_in_flight=1)) as pace:
            first = await pace.permit(COST)
            second = asyncio.create_task(pace.permit(COST))
            third = asyncio.create_task(pace.permit(COST))
            await asyncio.sleep(0)
            # The second is given leave and cancelled before it can take it.
            pace.settle(first, ANSWERED)
            second.cancel()
            pace.settle(await third, ANSWERED)
            assert pace._allowance.in_flight == 0
        assert pace.governor_summary().calls == 2

    asyncio.run(run())


def test_what_the_governor_raises_reaches_whoever_waits() -> None:
    async def sync(report: Report) -> Grant:
        raise ConfigError("the governor is gone")

    async def run() -> None:
        pace = SyncedPace("one", sync)
        with pytest.raises(ConfigError, match="gone"):
            await pace.permit(COST)
        with pytest.raises(ConfigError, match="gone"):
            pace.check()
        await pace.close()

    asyncio.run(run())


def test_without_an_answer_a_client_stops_after_its_lease() -> None:
    now = 100.0
    allowance = Allowance("one")
    allowance.report([COST], now)
    room = Amounts(requests=5, rate_tokens=500, budget_tokens=500, dollars=5.0)
    allowance.apply(Grant(share=10, room=room, pause_s=0.0, lease_s=5.0))
    assert allowance.may_begin(COST, now + 4.9)
    assert not allowance.may_begin(COST, now + 5.0)
    # What it had by then may be another's: it keeps none of it.
    assert allowance.report([COST], now + 6.0).room == NOTHING


def test_a_pause_holds_a_client_at_once() -> None:
    allowance = Allowance("one")
    allowance.report([COST], 100.0)
    room = Amounts(requests=5, rate_tokens=500, budget_tokens=500, dollars=5.0)
    allowance.apply(Grant(share=10, room=room, pause_s=0.0, lease_s=60.0))
    permit = allowance.begin(COST, 100.0)
    assert allowance.end(permit, CallResult(end=CallEnd.RATE_LIMITED, pause_s=7.0), 101.0)
    assert not allowance.may_begin(COST, 107.9)
    assert allowance.may_begin(COST, 108.0)


def test_free_pace_holds_nothing_back() -> None:
    async def run() -> None:
        pace = FreePace()
        for _ in range(3):
            pace.settle(await pace.permit(COST), ANSWERED)

    asyncio.run(run())
