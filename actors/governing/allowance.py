"""A client's side of the governor: what it may begin until it reports again.

Pure: time is passed in, nothing waits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from actors.governing.core import MINUTE_S
from actors.governing.terms import (
    NOTHING,
    Amounts,
    CallCost,
    CallEnd,
    CallResult,
    Grant,
    Permit,
    Report,
    Stop,
    Tally,
    from_each,
)


@dataclass
class _Begun:
    """A call of the last minute."""

    at: float
    tokens: float


class Allowance:
    """Counts what one client does against what it was granted."""

    def __init__(self, client: str) -> None:
        self._client = client
        self.in_flight = 0
        self.stop: Stop | None = None
        self.paused_until = -math.inf
        self._share = 0
        self._room = NOTHING
        self._lease_until = -math.inf
        self._sent_at = -math.inf
        self._number = 0
        self._open: dict[int, tuple[Permit, _Begun]] = {}
        self._open_cost = CallCost()
        self._recent: deque[_Begun] = deque()
        self._recent_tokens = 0.0
        self._begun_cost = NOTHING
        self._returned = NOTHING
        self._tally = Tally()

    def may_begin(self, cost: CallCost, now: float) -> bool:
        """Whether a call that takes at most ``cost`` may begin."""
        return (
            self.stop is None
            and self.in_flight < self._share
            and self.paused_until <= now < self._lease_until
            and self._room.covers(Amounts.of(cost))
        )

    def begin(self, cost: CallCost, now: float) -> Permit:
        """Count a call that begins; to be asked only after ``may_begin``."""
        self._number += 1
        permit = Permit(number=self._number, cost=cost, started=now)
        begun = _Begun(now, cost.tokens)
        needed = Amounts.of(cost)
        self._room -= needed
        self._begun_cost += needed
        self._open[permit.number] = (permit, begun)
        self._open_cost = _sum(self._open_cost, cost)
        if not math.isinf(self._room.requests) or not math.isinf(self._room.rate_tokens):
            self._recent.append(begun)
            self._recent_tokens += begun.tokens
        self.in_flight += 1
        return permit

    def end(self, permit: Permit, result: CallResult, now: float) -> bool:
        """Count a call's end; whether the governor should hear of it at once."""
        _, begun = self._open.pop(permit.number)
        self.in_flight -= 1
        self._open_cost = _sum(self._open_cost, CallCost(tokens=-permit.cost.tokens, dollars=-permit.cost.dollars))
        self._refund(begun, result.cost.tokens)
        self._tally += _tally_of(result)
        if result.pause_s is not None:
            self.paused_until = max(self.paused_until, now + result.pause_s)
        if result.end in (CallEnd.RATE_LIMITED, CallEnd.SERVER_ERROR):
            # What came too much is not tried again before the governor has spoken.
            self._share = min(self._share, max(1, self.in_flight))
            return True
        return result.pause_s is not None

    def report(self, waiting: Sequence[CallCost], now: float, *, is_last: bool = False) -> Report:
        """What to tell the governor; what will not be needed soon is given back with it."""
        self._forget_old(now)
        first = Amounts.of(waiting[0]) if waiting else None
        wanted = sum((Amounts.of(cost) for cost in waiting), self._begun_cost)
        # Less than one call's room is of no use here and may be what another client lacks.
        is_stuck = first is not None and not self._room.covers(first)
        is_void = is_stuck or is_last or now >= self._lease_until
        kept = NOTHING if is_void else _no_more_than(self._room, wanted)
        given_back = Amounts(
            requests=_given_back(self._room.requests, kept.requests),
            rate_tokens=_given_back(self._room.rate_tokens, kept.rate_tokens),
        )
        self._room = kept
        returned, self._returned = self._returned + given_back, NOTHING
        self._begun_cost = NOTHING
        self._sent_at = now
        tally = self._tally
        return Report(
            client=self._client,
            tally=tally,
            in_flight=self.in_flight,
            waiting=len(waiting),
            share=0 if is_last else self._share,
            used=Amounts(
                requests=len(self._recent),
                rate_tokens=self._recent_tokens,
                budget_tokens=tally.tokens + self._open_cost.tokens,
                dollars=tally.dollars + max(0.0, self._open_cost.dollars),
            ),
            room=kept,
            wanted=wanted,
            first=first,
            returned=returned,
            pause_s=max(0.0, self.paused_until - now),
            is_last=is_last,
        )

    def apply(self, grant: Grant) -> None:
        """Go by the answer to the last report from now on."""
        self._share = grant.share
        self._room += grant.room
        self._lease_until = self._sent_at + grant.lease_s
        self.paused_until = max(self.paused_until, self._sent_at + grant.pause_s)
        self.stop = self.stop or grant.stop

    def _refund(self, begun: _Begun, tokens: int) -> None:
        """Within its minute a call counts as what it took, no longer as the most that it could."""
        unused = begun.tokens - tokens
        begun.tokens = tokens
        if self._recent and begun.at >= self._recent[0].at:
            self._recent_tokens -= unused
            if unused > 0:
                self._returned += Amounts(rate_tokens=unused)

    def _forget_old(self, now: float) -> None:
        while self._recent and self._recent[0].at < now - MINUTE_S:
            self._recent_tokens -= self._recent.popleft().tokens


def _no_more_than(room: Amounts, wanted: Amounts) -> Amounts:
    pairs = zip(room.each(), wanted.each(), strict=True)
    return from_each(have if math.isinf(have) else min(have, need) for have, need in pairs)


def _given_back(had: float, kept: float) -> float:
    """Of what is without limit nothing is."""
    return 0.0 if math.isinf(had) else had - kept


def _sum(a: CallCost, b: CallCost) -> CallCost:
    return CallCost(tokens=a.tokens + b.tokens, dollars=a.dollars + b.dollars)


def _tally_of(result: CallResult) -> Tally:
    cost = result.cost
    if result.end is CallEnd.UNUSED:
        return Tally()
    spent = Tally(tokens=cost.tokens, dollars=cost.dollars)
    if result.end is CallEnd.ABANDONED:
        return spent
    seconds = result.seconds if result.end is CallEnd.ANSWERED else 0.0
    return replace(spent, seconds=seconds, **{result.end.value: 1})
