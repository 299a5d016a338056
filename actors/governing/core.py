"""The governor's decisions: what each client may ask, so that all together keep to the limits.

Pure: time is passed in, nothing is sent. A client tells what it used and what room it keeps, and
is given more: for each limit, what is used plus all room given out is never above it, whatever
clients do between two reports. So a client needs no word for a single call, and the limits hold to
the call, as far as what a call can take is known before.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from actors.governing.concurrency import Concurrency
from actors.governing.limits import LimitsConfig
from actors.governing.terms import (
    NOTHING,
    Amounts,
    GovernorSummary,
    Grant,
    Paid,
    Report,
    Stop,
    StopKind,
    Tally,
    from_each,
)

LEASE_S = 5.0
"""A client that has not been answered for so long begins no call; a little later what it was given goes to others."""
SETTLING_S = 2.0
"""A governor that was restarted first listens to all clients for so long."""
MINUTE_S = 61.0
"""How long what a lost client began counts: a minute, and a little for the way to the endpoint."""
_SILENT_S = LEASE_S + 2.0
_BURST_S = 2.0
_BURST_CALLS = 4
"""So many seconds' worth of a rate may begin at once, and no fewer than so many calls."""


@dataclass
class _Client:
    """What the governor knows of one client."""

    report: Report
    heard: float
    used: Amounts
    room: Amounts
    held: int
    """Calls that it may have open for all we know."""
    is_live: bool = True


class Governor:
    """Answers reports with grants. ``now`` is in seconds, of a clock that never goes back."""

    def __init__(self, limits: LimitsConfig, *, now: float, paid: Paid | None = None, is_restarted: bool = False):
        self._limits = limits
        self._paid = paid or Paid()
        self._clients: dict[str, _Client] = {}
        self._concurrency = Concurrency(
            start=limits.start_in_flight, most=limits.max_in_flight, decrease=limits.decrease
        )
        self._drips = [_Drip(limits.requests_per_minute, now), _Drip(limits.tokens_per_minute, now)]
        self._outage = _Outage(limits)
        self._settled_at = now + SETTLING_S if is_restarted else -math.inf
        self._is_restarted = is_restarted
        self._latency_s = 1.0
        self._paused_until = -math.inf
        self._pauses = 0
        self._paused_s = 0.0
        self._stop: Stop | None = None

    def sync(self, report: Report, now: float) -> Grant:
        """Take note of ``report`` and say how far its client may go."""
        before = self._clients.get(report.client)
        self._observe(report, before.report.tally if before else None, now)
        self._clients[report.client] = client = _Client(
            report=report,
            heard=now,
            used=report.used,
            room=report.room,
            held=max(report.share, report.in_flight),
            is_live=not report.is_last,
        )
        self._forget_silent(now)
        if now < self._settled_at:
            return self._grant(report.share, NOTHING, now)
        if report.is_last:
            client.held = report.in_flight
            return self._grant(0, NOTHING, now)
        self._check_budget(report)
        added = NOTHING if self._stop else self._allot(client)
        client.room += added
        share = self._share(client)
        client.held = max(share, report.share, report.in_flight)
        return self._grant(share, added, now)

    def stop(self, message: str) -> None:
        """Let no call begin from now on; clients learn it with their next report."""
        self._stop = self._stop or Stop(kind=StopKind.ASKED, message=message)

    def must_recount(self, now: float) -> bool:
        """Whether this governor was restarted, has heard the clients and wants ``recount``."""
        return self._is_restarted and now >= self._settled_at

    def recount(self, paid: Paid) -> None:
        """What the whole run has paid by now, clients that are gone included."""
        self._is_restarted = False
        reported = self._reported()
        self._paid = Paid(
            tokens=max(self._paid.tokens, paid.tokens - reported.tokens),
            dollars=max(self._paid.dollars, paid.dollars - reported.dollars),
        )
        if level := sum(client.report.share for client in self._clients.values()):
            self._concurrency.resume_at(level)

    def in_flight(self) -> int:
        """Calls that were open when their clients last reported."""
        return sum(client.report.in_flight for client in self._clients.values() if client.is_live)

    def summary(self, *, restarts: int = 0) -> GovernorSummary:
        """What was seen so far."""
        tally = self._reported()
        return GovernorSummary(
            calls=tally.ended,
            rate_limited=tally.rate_limited,
            server_errors=tally.server_error,
            timeouts=tally.timeout,
            connections_lost=tally.connection_lost,
            pauses=self._pauses,
            paused_s=self._paused_s,
            in_flight=self._concurrency.level,
            lowest_in_flight=self._concurrency.lowest,
            highest_in_flight=self._concurrency.highest,
            spent_tokens=tally.tokens,
            spent_dollars=tally.dollars,
            restarts=restarts,
            stopped=self._stop.message if self._stop else "",
        )

    def _grant(self, share: int, room: Amounts, now: float) -> Grant:
        pause_s = max(0.0, self._paused_until - now)
        return Grant(share=share, room=room, pause_s=pause_s, lease_s=LEASE_S, stop=self._stop)

    def _reported(self) -> Tally:
        return sum((client.report.tally for client in self._clients.values()), Tally())

    def _spent(self) -> Paid:
        """For certain: what is over, and all that lost clients had open."""
        tokens = dollars = 0.0
        for client in self._clients.values():
            tally = client.report.tally
            tokens += tally.tokens if client.is_live else client.used.budget_tokens
            dollars += tally.dollars if client.is_live else client.used.dollars
        return Paid(tokens=int(tokens), dollars=dollars)

    def _observe(self, report: Report, before: Tally | None, now: float) -> None:
        """Adapt the number of open calls, note pauses and outages."""
        first = report.first or NOTHING
        for drip, returned, needed in zip(self._drips, report.returned.each(), first.each(), strict=False):
            drip.add(returned, now, needed)
        if report.pause_s > 0:
            until = now + report.pause_s
            self._pauses += now >= self._paused_until
            self._paused_s += max(0.0, until - max(now, self._paused_until))
            self._paused_until = max(self._paused_until, until)
        if before is None and self._is_restarted:
            return  # Told to the governor before this one, and acted on by it.
        new = report.tally - (before or Tally())
        if new.answered:
            self._latency_s += (new.seconds / new.answered - self._latency_s) * min(1.0, new.answered / 20)
            self._concurrency.answered(new.answered, is_needed=self._is_full(report))
        if refused := new.rate_limited + new.server_error:
            open_calls = self._others_in_flight(report.client) + report.in_flight + refused
            self._concurrency.refused(now, in_flight=open_calls, latency_s=max(1.0, self._latency_s))
        message = self._outage.message(new, now)
        if message is not None and self._stop is None:
            self._stop = Stop(kind=StopKind.OUTAGE, message=message)

    def _is_full(self, report: Report) -> bool:
        demand = sum(
            _demand(c.report) for c in self._clients.values() if c.is_live and c.report.client != report.client
        )
        return demand + _demand(report) >= self._concurrency.level

    def _others_in_flight(self, name: str) -> int:
        return sum(c.report.in_flight for c in self._clients.values() if c.is_live and c.report.client != name)

    def _forget_silent(self, now: float) -> None:
        """What a lost client was given goes to others; what it had open counts as spent."""
        for client in self._clients.values():
            silent_s = now - client.heard
            if client.is_live and silent_s > _SILENT_S:
                client.is_live = False
                client.room = NOTHING
                client.held = 0
            if not client.is_live and silent_s > MINUTE_S and client.used.requests:
                client.used = Amounts(budget_tokens=client.used.budget_tokens, dollars=client.used.dollars)

    def _check_budget(self, report: Report) -> None:
        """End the run once a call that waits would not fit even if all open ones cost nothing."""
        if report.first is None or self._stop is not None:
            return
        limits, first = self._limits, report.first
        go_on = "Raise it and run again to go on from here; what was paid for is not paid again"
        spent = self._spent()
        dollars = self._paid.dollars + spent.dollars
        if limits.budget_dollars is not None and dollars + first.dollars > limits.budget_dollars + 1e-9:
            self._stop = Stop(
                kind=StopKind.BUDGET,
                message=f"limits.budget_dollars is ${limits.budget_dollars:g}, ${dollars:.4f} of it is spent and the "
                f"next call may cost ${first.dollars:.4f}. {go_on}",
            )
        tokens = self._paid.tokens + spent.tokens
        if limits.budget_tokens is not None and tokens + first.budget_tokens > limits.budget_tokens:
            self._stop = Stop(
                kind=StopKind.BUDGET,
                message=f"limits.budget_tokens is {limits.budget_tokens:,}, {tokens:,} of them are spent and the next "
                f"call may take {first.budget_tokens:,.0f}. {go_on}",
            )
        if limits.tokens_per_minute is not None and first.rate_tokens > limits.tokens_per_minute:
            self._stop = Stop(
                kind=StopKind.LIMITS,
                message=f"limits.tokens_per_minute is {limits.tokens_per_minute:,}, and a single call may take "
                f"{first.rate_tokens:,.0f}; raise it, or lower teacher.max_tokens",
            )

    def _allot(self, client: _Client) -> Amounts:
        """More room for ``client``: its part by need, but for its first waiting call whole or not at all."""
        need = client.report.wanted - client.room
        all_needs = [(c.report.wanted - c.room).each() for c in self._clients.values() if c.is_live and c is not client]
        free = self._free()
        added = []
        for place, (wanted, left) in enumerate(zip(need.each(), free.each(), strict=True)):
            if math.isinf(left):
                added.append(math.inf)
                continue
            total = wanted + sum(needs[place] for needs in all_needs)
            part = wanted if total <= left else left * wanted / total
            added.append(float(math.floor(part)) if place == 0 else part)
        given = from_each(added)
        first = client.report.first
        if first is not None and not (client.room + given).covers(first):
            missing = first - client.room
            if not free.covers(missing):
                return given.at_most(_only_unlimited(free))
            given = from_each(map(max, given.each(), missing.each()))
        for drip, amount in zip(self._drips, given.each(), strict=False):
            drip.take(amount)
        return given

    def _free(self) -> Amounts:
        """What is neither used nor given out."""
        limits = self._limits
        caps = (
            limits.requests_per_minute,
            limits.tokens_per_minute,
            limits.budget_tokens,
            limits.budget_dollars,
        )
        base = (0.0, 0.0, float(self._paid.tokens), self._paid.dollars)
        held = [[a + b for a, b in zip(c.used.each(), c.room.each(), strict=True)] for c in self._clients.values()]
        free = []
        for place, (cap, spent) in enumerate(zip(caps, base, strict=True)):
            if cap is None:
                free.append(math.inf)
                continue
            left = cap - spent - sum(amounts[place] for amounts in held)
            if place < len(self._drips):
                left = min(left, self._drips[place].level)
            free.append(max(0.0, left))
        return from_each(free)

    def _share(self, client: _Client) -> int:
        """Its part of the open calls: all get what they need or evenly less, and what is left over evenly."""
        live = [c for c in self._clients.values() if c.is_live]
        parts = even_parts(self._concurrency.level, [_demand(c.report) for c in live])
        part = parts[next(i for i, c in enumerate(live) if c is client)]
        # What others may still have open they must give back first.
        held = sum(c.held for c in live if c is not client)
        return max(0, min(part, self._concurrency.level - held))


def even_parts(total: int, needs: list[int]) -> list[int]:
    """``total`` shared out: nobody gets less than its need while another gets more than its own; the rest evenly."""
    parts = [0] * len(needs)
    left, hungry = total, [i for i, need in enumerate(needs) if need > 0]
    while left and hungry:
        each, extra = divmod(left, len(hungry))
        for place, i in enumerate(hungry):
            got = min(needs[i] - parts[i], each + (place < extra))
            parts[i] += got
            left -= got
        hungry = [i for i in hungry if parts[i] < needs[i]]
    each, extra = divmod(left, len(needs)) if needs else (0, 0)
    return [part + each + (i < extra) for i, part in enumerate(parts)]


def _demand(report: Report) -> int:
    return report.in_flight + report.waiting


def _only_unlimited(free: Amounts) -> Amounts:
    return from_each(math.inf if math.isinf(one) else 0.0 for one in free.each())


class _Drip:
    """Lets a rate begin evenly: providers look at less than a minute too."""

    def __init__(self, per_minute: int | None, now: float) -> None:
        self._per_s = math.inf if per_minute is None else per_minute / 60
        self._burst = self._per_s * _BURST_S
        self.level = self._burst
        self._at = now

    def add(self, returned: float, now: float, needed: float) -> None:
        """Time passed, and ``returned`` was not needed; a call that waits takes ``needed``."""
        if math.isinf(self._per_s):
            return
        self._burst = max(self._burst, _BURST_CALLS * needed)
        self.level = min(self.level + returned + self._per_s * (now - self._at), self._burst)
        self._at = now

    def take(self, amount: float) -> None:
        if not math.isinf(self._per_s):
            self.level -= amount


class _Outage:
    """Tells an endpoint that is down from one that has a bad moment."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._seen: deque[tuple[float, int, int]] = deque()
        self._began: float | None = None

    def message(self, new: Tally, now: float) -> str | None:
        """Take note of the tries that ended; why the run should end, or None."""
        limits = self._limits
        if new.ended:
            self._seen.append((now, new.ended, new.failed))
        if self._began is None:
            self._began = now if new.ended else None
            return None
        while self._seen and self._seen[0][0] < now - limits.stop_window_s:
            self._seen.popleft()
        ended = sum(one[1] for one in self._seen)
        failed = sum(one[2] for one in self._seen)
        if now - self._began < limits.stop_window_s or ended < limits.stop_min_calls:
            return None
        if failed < limits.stop_error_rate * ended:
            return None
        return (
            f"the teacher is down: of the last {ended} tries, in {limits.stop_window_s:g} s, {failed} failed "
            "(server errors, timeouts, lost connections, unreadable replies). Run again to go on from here"
        )
