"""What clients and the governor tell one another. Frozen values that survive pickling."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Protocol

from reasoning.errors import BudgetReachedError, ConfigError, StagebeamError, TeacherError


class CallEnd(StrEnum):
    """How one try of a call ended."""

    ANSWERED = "answered"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"
    GARBLED = "garbled"
    REFUSED = "refused"
    """The endpoint works and does not want this call."""
    ABANDONED = "abandoned"
    """Whoever asked did not wait for the end."""
    UNUSED = "unused"
    """Allowed, and never sent."""


FAILURES = (CallEnd.SERVER_ERROR, CallEnd.TIMEOUT, CallEnd.CONNECTION_LOST, CallEnd.GARBLED)
"""What an endpoint that is down gives. A rate limit is the word of one that is up."""


@dataclass(frozen=True, kw_only=True)
class CallCost:
    """Of a call to come the most that it can take; of one that is over, what it took."""

    tokens: int = 0
    dollars: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """One try, over."""

    end: CallEnd
    seconds: float = 0.0
    cost: CallCost = CallCost()
    """Where nobody knows what it took (a timeout, a lost connection): the most that it can have taken."""
    pause_s: float | None = None
    """How long the endpoint asks not to be asked."""


@dataclass(frozen=True, kw_only=True)
class Permit:
    """Leave to make one try; to be settled once."""

    number: int
    cost: CallCost
    started: float


class Pace(Protocol):
    """Lets calls begin when they may. One event loop; many calls at a time."""

    async def permit(self, cost: CallCost) -> Permit:
        """Wait until a call that takes at most ``cost`` may begin.

        Raises BudgetReachedError when the budget has no room for it any more, TeacherError when the
        endpoint is down, StagebeamError when the run is being stopped.
        """
        ...

    def settle(self, permit: Permit, result: CallResult) -> None:
        """Say how the try that ``permit`` allowed ended: every permit, once."""
        ...


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What limits count, each infinite where there is none."""

    requests: float = 0.0
    """Begun within a minute."""
    rate_tokens: float = 0.0
    """Of calls begun within a minute."""
    budget_tokens: float = 0.0
    dollars: float = 0.0

    @classmethod
    def of(cls, cost: CallCost) -> Amounts:
        """What one call takes."""
        return cls(requests=1.0, rate_tokens=cost.tokens, budget_tokens=cost.tokens, dollars=cost.dollars)

    def each(self) -> tuple[float, float, float, float]:
        return (self.requests, self.rate_tokens, self.budget_tokens, self.dollars)

    def __add__(self, other: Amounts) -> Amounts:
        return from_each(a + b for a, b in zip(self.each(), other.each(), strict=True))

    def __sub__(self, other: Amounts) -> Amounts:
        """Never below zero; what is without limit stays so."""
        pairs = zip(self.each(), other.each(), strict=True)
        return from_each(a if math.isinf(a) else max(0.0, a - b) for a, b in pairs)

    def at_most(self, other: Amounts) -> Amounts:
        return from_each(map(min, self.each(), other.each()))

    def covers(self, other: Amounts) -> bool:
        # Sums of fractions of a dollar are not exact; a millionth of a token is nothing.
        return all(a >= b - 1e-9 for a, b in zip(self.each(), other.each(), strict=True))


def from_each(values: Iterable[float]) -> Amounts:
    """The inverse of ``Amounts.each``."""
    requests, rate_tokens, budget_tokens, dollars = values
    return Amounts(requests=requests, rate_tokens=rate_tokens, budget_tokens=budget_tokens, dollars=dollars)


NOTHING = Amounts()


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What a client's tries came to since it began."""

    answered: int = 0
    rate_limited: int = 0
    server_error: int = 0
    timeout: int = 0
    connection_lost: int = 0
    garbled: int = 0
    refused: int = 0
    seconds: float = 0.0
    """What the answered ones took, all together."""
    tokens: int = 0
    dollars: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Tally)})

    def __sub__(self, other: Tally) -> Tally:
        return Tally(**{one.name: getattr(self, one.name) - getattr(other, one.name) for one in fields(Tally)})

    @property
    def ended(self) -> int:
        return self.answered + self.rate_limited + self.refused + self.failed

    @property
    def failed(self) -> int:
        return self.server_error + self.timeout + self.connection_lost + self.garbled


class StopKind(StrEnum):
    """Why nothing more may be asked."""

    BUDGET = "budget"
    OUTAGE = "outage"
    LIMITS = "limits"
    """The limits let no call through that the run needs."""
    ASKED = "asked"


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The end of all asking; calls that are open may be answered."""

    kind: StopKind
    message: str

    def error(self) -> StagebeamError:
        """What whoever asks for a permit gets."""
        match self.kind:
            case StopKind.BUDGET:
                return BudgetReachedError(self.message)
            case StopKind.OUTAGE:
                return TeacherError(self.message)
            case StopKind.LIMITS:
                return ConfigError(self.message)
            case StopKind.ASKED:
                return StagebeamError(self.message)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A client's word to the governor. A later one stands in for all earlier ones."""

    client: str
    tally: Tally
    in_flight: int
    waiting: int
    share: int
    """Calls that it takes itself to be allowed to have open."""
    used: Amounts
    """Rates: what began within the last minute. Budgets: spent, and at most needed by what is open."""
    room: Amounts
    """What it may still begin, and keeps for what it is about to."""
    wanted: Amounts
    """The room that it needs until it reports again."""
    first: Amounts | None
    """What the call that has waited longest needs; None: none waits."""
    returned: Amounts = NOTHING
    """Of rates: what it was given and does not need, since the last report."""
    pause_s: float = 0.0
    """For how long an endpoint's word keeps it from asking."""
    is_last: bool = False
    """It is done and will report no more."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The governor's answer."""

    share: int
    """Calls that the client may have open."""
    room: Amounts
    """What it may begin beside what it kept."""
    pause_s: float
    lease_s: float
    """For so long after its report the client may go by this."""
    stop: Stop | None = None


@dataclass(frozen=True, kw_only=True)
class Paid:
    """What earlier parts of a run have cost."""

    tokens: int = 0
    dollars: float = 0.0


@dataclass(frozen=True, kw_only=True)
class GovernorSummary:
    """What a governor saw, for ``run.json``."""

    calls: int
    """Tries that ended, whichever way."""
    rate_limited: int
    server_errors: int
    timeouts: int
    connections_lost: int
    pauses: int
    """How often an endpoint asked for one, its overlapping ones counted as one."""
    paused_s: float
    in_flight: int
    """What all clients may have open, at last."""
    lowest_in_flight: int
    highest_in_flight: int
    spent_tokens: int
    spent_dollars: float
    """Of this part of the run; where nobody knows what a call took, the most that it can have."""
    restarts: int = 0
    stopped: str = ""
    """Why asking ended early, else empty."""
