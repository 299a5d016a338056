"""The governor with its clients, on a clock of their own."""

from __future__ import annotations

import pickle

import pytest

from actors.governing.concurrency import Concurrency
from actors.governing.core import Governor, even_parts
from actors.governing.limits import LimitsConfig
from actors.governing.terms import NOTHING, Amounts, CallCost, Grant, Paid, Report, StopKind, Tally
from reasoning.errors import BudgetReachedError, TeacherError
from tests.unit.actors.governor_world import Endpoint, World


@pytest.mark.parametrize(("bears", "clients", "until"), [(4, 1, 800), (48, 3, 250), (200, 4, 160)])
def test_finds_what_the_endpoint_bears_and_wastes_little(bears: int, clients: int, until: int) -> None:
    endpoint = Endpoint(bears=bears)
    world = World(LimitsConfig(start_in_flight=8), endpoint, clients=clients, waiting=300)
    world.run_until(60)
    answered, refused = endpoint.answered, len(endpoint.refused)
    world.run_until(until)
    answered, refused = endpoint.answered - answered, len(endpoint.refused) - refused
    assert refused / (answered + refused) < 0.02
    assert answered / ((until - 60) * bears) > 0.8


def test_number_of_open_calls_doubles_to_the_demand() -> None:
    endpoint = Endpoint()
    world = World(LimitsConfig(start_in_flight=8), endpoint, waiting=256)
    world.run_until(10)
    assert endpoint.most_open == 256
    assert not endpoint.refused


def test_most_open_calls_are_never_more_than_allowed_over_all_clients() -> None:
    endpoint = Endpoint()
    world = World(LimitsConfig(start_in_flight=50, max_in_flight=50), endpoint, clients=4, waiting=100)
    world.at(20, lambda: setattr(world.clients[0], "waiting", 2))
    world.run_until(60)
    assert endpoint.most_open == 50
    assert endpoint.answered > 0.95 * 50 * 59


@pytest.mark.parametrize(("rpm", "clients"), [(1, 1), (7, 2), (90, 3), (3000, 4)])
def test_requests_a_minute_are_never_exceeded_in_any_minute(rpm: int, clients: int) -> None:
    until = 600 if rpm < 60 else 200
    endpoint = Endpoint(latency_s=2.0)
    world = World(LimitsConfig(requests_per_minute=rpm, start_in_flight=500), endpoint, clients=clients, waiting=200)
    world.run_until(until)
    calls, _ = world.most_in_a_minute()
    assert calls <= rpm
    assert endpoint.answered >= 0.9 * rpm * (until - 10) / 61 - 1


@pytest.mark.parametrize("clients", [1, 4])
def test_tokens_a_minute_are_never_exceeded_and_what_was_not_needed_is_used(clients: int) -> None:
    most, actual = CallCost(tokens=3500), CallCost(tokens=900)
    endpoint = Endpoint(latency_s=3.0)
    limits = LimitsConfig(tokens_per_minute=200_000, start_in_flight=500)
    world = World(limits, endpoint, clients=clients, waiting=100, most=most, actual=actual)
    world.run_until(300)
    _, tokens = world.most_in_a_minute()
    assert tokens <= 200_000
    assert endpoint.answered * 900 > 0.8 * 200_000 * 5


@pytest.mark.parametrize("clients", [1, 5])
def test_budget_is_never_overshot_and_used_to_its_end(clients: int) -> None:
    most, actual = CallCost(tokens=3000, dollars=0.03), CallCost(tokens=1000, dollars=0.01)
    limits = LimitsConfig(budget_dollars=10.0, start_in_flight=200)
    world = World(limits, Endpoint(), clients=clients, waiting=100, most=most, actual=actual, paid=Paid(dollars=4.0))
    world.run_until(120)
    assert 10.0 - 0.03 <= round(world.spent.dollars, 6) <= 10.0
    [stop] = world.stops
    assert stop.kind is StopKind.BUDGET
    error = stop.error()
    assert isinstance(error, BudgetReachedError)
    assert "limits.budget_dollars is $10" in str(error)
    assert "run again" in str(error)


def test_budget_holds_when_every_call_takes_the_most_it_can() -> None:
    most = CallCost(tokens=3000, dollars=0.03)
    world = World(LimitsConfig(budget_tokens=100_000), Endpoint(), clients=3, waiting=50, most=most)
    world.run_until(60)
    assert world.spent.tokens == 99_000
    assert [stop.kind for stop in world.stops] == [StopKind.BUDGET]


def test_what_a_lost_client_had_open_counts_as_spent() -> None:
    cost = CallCost(dollars=1.0)
    limits = LimitsConfig(budget_dollars=100.0, start_in_flight=20, max_in_flight=20)
    world = World(limits, Endpoint(latency_s=4.0), clients=2, waiting=50, most=cost)
    world.at(6, world.clients[0].kill)
    world.run_until(120)
    # Its ten open calls were answered, and paid for, after it had died.
    assert 80 <= world.spent.dollars <= 100
    assert [stop.kind for stop in world.stops] == [StopKind.BUDGET]


def test_share_of_a_lost_client_goes_to_the_others() -> None:
    limits = LimitsConfig(start_in_flight=40, max_in_flight=40)
    world = World(limits, Endpoint(), clients=2, waiting=100)
    world.run_until(5)
    assert world.clients[1].allowance.in_flight == 20
    world.clients[0].kill()
    world.run_until(16)
    assert world.clients[1].allowance.in_flight == 40


def test_a_named_pause_holds_all_clients() -> None:
    endpoint = Endpoint(bears=10, retry_after_s=20.0)
    world = World(LimitsConfig(start_in_flight=8), endpoint, clients=3, waiting=50)
    while not endpoint.refused:
        world.run_until(world.now + 0.1)
    paused = endpoint.refused[0]
    world.run_until(paused + 60)
    begun = [when for when, _ in endpoint.begun if paused + 0.6 < when < paused + 19.9]
    assert begun == []
    assert any(when > paused + 19.9 for when, _ in endpoint.begun)
    summary = world.governor.summary() if world.governor else None
    assert summary is not None
    assert summary.pauses >= 1
    assert summary.paused_s >= 20


def test_endpoint_that_is_down_ends_the_run_after_a_while() -> None:
    endpoint = Endpoint()
    world = World(LimitsConfig(), endpoint, clients=2, waiting=20)
    world.run_until(100)
    endpoint.is_down = True
    world.run_until(130)
    assert world.stops == []
    world.run_until(200)
    [stop] = world.stops
    assert isinstance(stop.error(), TeacherError)
    assert "Run again to go on from here" in stop.message


def test_short_outage_ends_nothing() -> None:
    endpoint = Endpoint()
    world = World(LimitsConfig(), endpoint, clients=2, waiting=20)
    world.run_until(100)
    endpoint.is_down = True
    world.run_until(120)
    endpoint.is_down = False
    world.run_until(300)
    assert world.stops == []


def test_a_restarted_governor_goes_on_within_all_limits() -> None:
    cost = CallCost(tokens=1000, dollars=0.01)
    limits = LimitsConfig(
        requests_per_minute=600, budget_dollars=20.0, start_in_flight=30, max_in_flight=30, tokens_per_minute=10**6
    )
    endpoint = Endpoint(latency_s=1.5)
    world = World(limits, endpoint, clients=3, waiting=50, most=cost)
    world.run_until(50)
    world.governor = None
    world.clients[0].kill()
    world.run_until(53)
    reborn = Governor(limits, now=53.0, paid=Paid(), is_restarted=True)
    world.governor = reborn
    world.run_until(56)
    assert reborn.must_recount(56.0)
    reborn.recount(world.spent)
    assert not reborn.must_recount(56.0)
    world.run_until(400)
    calls, _ = world.most_in_a_minute()
    assert calls <= 600 + 30  # The dead client's last minute is forgotten with the governor.
    assert 19.0 <= round(world.spent.dollars, 6) <= 20.0
    assert [stop.kind for stop in world.stops] == [StopKind.BUDGET]
    assert endpoint.most_open <= 40  # What the dead client had open was still being answered.


def test_call_larger_than_the_tokens_of_a_minute_is_told() -> None:
    world = World(LimitsConfig(tokens_per_minute=1000), Endpoint(), most=CallCost(tokens=2500))
    world.run_until(5)
    [stop] = world.stops
    assert stop.kind is StopKind.LIMITS
    assert "limits.tokens_per_minute is 1,000" in stop.message


def test_stop_reaches_clients_and_names_its_reason() -> None:
    world = World(LimitsConfig(), Endpoint(), clients=2)
    world.run_until(5)
    assert world.governor is not None
    world.governor.stop("the run is being stopped")
    world.run_until(6)
    begun = len(world.endpoint.begun)
    world.run_until(20)
    assert len(world.endpoint.begun) == begun
    assert world.governor.in_flight() == 0
    assert world.governor.summary().stopped == "the run is being stopped"


def test_parts_are_even_and_no_more_than_needed_while_others_lack() -> None:
    assert even_parts(10, [2, 100, 100]) == [2, 4, 4]
    assert even_parts(10, [1, 1]) == [5, 5]
    assert even_parts(3, [0, 5, 5]) == [0, 2, 1]
    assert even_parts(5, []) == []


def test_refusals_of_one_latency_are_one() -> None:
    level = Concurrency(start=100, most=None, decrease=0.5)
    for at in (0.0, 0.5, 1.9):
        level.refused(at, in_flight=100, latency_s=2.0)
    assert level.level == 50
    level.refused(2.1, in_flight=50, latency_s=2.0)
    assert (level.level, level.lowest, level.highest) == (25, 25, 100)


def test_level_that_holds_nothing_back_does_not_rise() -> None:
    level = Concurrency(start=10, most=None, decrease=0.5)
    level.answered(1000, is_needed=False)
    assert level.level == 10


def test_what_is_sent_survives_pickling() -> None:
    report = Report(
        client="a", tally=Tally(answered=1), in_flight=1, waiting=0, share=2, used=NOTHING, room=NOTHING,
        wanted=NOTHING, first=Amounts(requests=1.0),
    )  # fmt: skip
    grant = Grant(share=1, room=NOTHING, pause_s=0.0, lease_s=5.0)
    assert pickle.loads(pickle.dumps((report, grant))) == (report, grant)
