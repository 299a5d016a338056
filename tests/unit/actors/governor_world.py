"""Clients that ask a made-up endpoint under a governor, on a clock of their own: nothing waits."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from actors.governing.allowance import Allowance
from actors.governing.core import Governor
from actors.governing.limits import LimitsConfig
from actors.governing.terms import CallCost, CallEnd, CallResult, Grant, Paid, Report, Stop

SYNC_S = 0.5


@dataclass
class Endpoint:
    """Answers after ``latency_s``; what is more than ``bears`` at a time it refuses at once."""

    bears: int = 10**9
    latency_s: float = 1.0
    is_down: bool = False
    retry_after_s: float | None = None
    open: int = 0
    most_open: int = 0
    begun: list[tuple[float, int]] = field(default_factory=list)
    """When each call began and what it took in tokens, filled in at its end."""
    answered: int = 0
    refused: list[float] = field(default_factory=list)


class World:
    """``clients`` with ``waiting`` calls each, for ever or as many as ``calls``; each takes ``actual`` of ``most``."""

    def __init__(
        self,
        limits: LimitsConfig,
        endpoint: Endpoint,
        *,
        clients: int = 1,
        waiting: int = 100,
        calls: int | None = None,
        most: CallCost | None = None,
        actual: CallCost | None = None,
        paid: Paid | None = None,
    ) -> None:
        self.limits = limits
        self.endpoint = endpoint
        self.now = 0.0
        self.governor: Governor | None = Governor(limits, now=0.0, paid=paid)
        self.spent = paid or Paid()
        self.stops: list[Stop] = []
        self.random = random.Random(0)
        self._most = most or CallCost()
        self._actual = actual or self._most
        self._left = calls
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.clients = [Client(self, f"client {i}", waiting) for i in range(clients)]

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), what))

    def run_until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = end

    def take_call(self) -> bool:
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0

    def costs(self) -> tuple[CallCost, CallCost]:
        """The most that a call may take, and what it will."""
        return self._most, self._actual

    def pay(self, cost: CallCost) -> None:
        self.spent = Paid(tokens=self.spent.tokens + cost.tokens, dollars=self.spent.dollars + cost.dollars)

    def most_in_a_minute(self) -> tuple[int, int]:
        """The most calls, and tokens, that began within any 60 s."""
        most_calls = most_tokens = tokens = 0
        window: deque[tuple[float, int]] = deque()
        for when, cost in sorted(self.endpoint.begun):
            window.append((when, cost))
            tokens += cost
            while window[0][0] <= when - 60:
                tokens -= window.popleft()[1]
            most_calls, most_tokens = max(most_calls, len(window)), max(most_tokens, tokens)
        return most_calls, most_tokens


class Client:
    """As ``actors.governing.pace``, without an event loop. A refused call is put back in the queue."""

    def __init__(self, world: World, name: str, waiting: int) -> None:
        self.world = world
        self.allowance = Allowance(name)
        self.waiting = waiting
        self.is_alive = True
        self.pending: list[tuple[Grant, Report]] = []
        # Not all in step.
        world.at(world.random.uniform(0, SYNC_S), self._sync_in_turn)

    def kill(self) -> None:
        self.is_alive = False

    def _sync_in_turn(self) -> None:
        if self.is_alive:
            self.sync()
            self.world.at(self.world.now + SYNC_S, self._sync_in_turn)

    def sync(self) -> None:
        world = self.world
        if world.governor is None:
            return
        most, _ = world.costs()
        report = self.allowance.report([most] * self.waiting, world.now)
        grant = world.governor.sync(report, world.now)
        # Calls may begin and end while the answer is on its way.
        world.at(world.now + 0.005, lambda: self._apply(grant))

    def _apply(self, grant: Grant) -> None:
        if not self.is_alive:
            return
        self.allowance.apply(grant)
        if grant.stop is not None and grant.stop not in self.world.stops:
            self.world.stops.append(grant.stop)
        self.begin()

    def begin(self) -> None:
        world, endpoint = self.world, self.world.endpoint
        most, actual = world.costs()
        while self.is_alive and self.waiting and self.allowance.may_begin(most, world.now) and world.take_call():
            self.waiting -= 1
            permit = self.allowance.begin(most, world.now)
            is_refused = endpoint.open >= endpoint.bears
            endpoint.open += 1
            endpoint.most_open = max(endpoint.most_open, endpoint.open)
            takes_s = 0.01 if is_refused or endpoint.is_down else endpoint.latency_s
            end = CallEnd.RATE_LIMITED if is_refused else CallEnd.ANSWERED
            if endpoint.is_down:
                end = CallEnd.CONNECTION_LOST
            cost = actual if end is CallEnd.ANSWERED else CallCost()
            endpoint.begun.append((world.now, cost.tokens))
            pause_s = endpoint.retry_after_s if is_refused else None
            result = CallResult(end=end, seconds=takes_s, cost=cost, pause_s=pause_s)
            world.at(world.now + takes_s, lambda permit=permit, result=result: self._end(permit, result))  # type: ignore[misc]

    def _end(self, permit: object, result: CallResult) -> None:
        world = self.world
        world.endpoint.open -= 1
        if result.end is CallEnd.ANSWERED:
            world.endpoint.answered += 1
            world.pay(result.cost)
        else:
            world.endpoint.refused.append(world.now)
        if not self.is_alive:
            return
        must_tell = self.allowance.end(permit, result, world.now)  # type: ignore[arg-type]
        # Another takes its place; a refused one comes back after a while.
        if result.end is CallEnd.ANSWERED:
            self.waiting += 1
        else:
            world.at(world.now + 0.5, self._come_back)
        if must_tell:
            self.sync()
        self.begin()

    def _come_back(self) -> None:
        self.waiting += 1
        self.begin()
