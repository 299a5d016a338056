"""The governor of a run as a Ray actor, and the pace of those who ask by it.

One actor a run, restarted by Ray if it dies; its clients report to it now and then and go by what
it answered in between. The decisions are in ``actors.governing``.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from actors.call_records import PaidTotals
from actors.governing.core import Governor
from actors.governing.limits import LimitsConfig
from actors.governing.pace import FreePace, LocalPace, SyncedPace
from actors.governing.terms import GovernorSummary, Grant, Pace, Paid, Report

__all__ = [
    "FreePace",
    "GovernedPace",
    "GovernorSummary",
    "LimitsConfig",
    "LocalPace",
    "Pace",
    "Paid",
    "RunningGovernor",
    "start_governor",
]

STOPPING = "the run is being stopped"
_POLL_S = 0.2


class GovernorActor:
    """The governor in a process of its own, that counts what is paid anew if Ray has restarted it."""

    def __init__(self, limits: LimitsConfig, paid: Paid, calls: str | None) -> None:
        import ray

        is_restarted = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        self._governor = Governor(limits, now=time.monotonic(), paid=paid, is_restarted=is_restarted)
        self._paid = paid
        self._calls = calls
        self._restarts = int(is_restarted)
        self._recounting = asyncio.Lock()

    async def sync(self, report: Report) -> Grant:
        """See ``Governor.sync``."""
        if self._governor.must_recount(time.monotonic()):
            async with self._recounting:
                if self._governor.must_recount(time.monotonic()):
                    self._governor.recount(await asyncio.to_thread(self._count_paid))
        return self._governor.sync(report, time.monotonic())

    async def stop(self, message: str) -> None:
        """Let no call begin any more."""
        self._governor.stop(message)

    async def in_flight(self) -> int:
        """Calls that were open at their clients' last reports."""
        return self._governor.in_flight()

    async def summary(self) -> GovernorSummary:
        """What was seen so far, by this actor since it was last started."""
        return self._governor.summary(restarts=self._restarts)

    def _count_paid(self) -> Paid:
        if self._calls is None:
            return self._paid
        from actors.request_cache import paid_totals

        return _as_paid(paid_totals(self._calls))


def _as_paid(totals: PaidTotals) -> Paid:
    return Paid(tokens=totals.prompt_tokens + totals.generated_tokens, dollars=totals.dollars)


class RunningGovernor:
    """A run's governor, for the one that started it; ``handle`` is for ``GovernedPace``."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def summary(self) -> GovernorSummary:
        """What it saw so far."""
        import ray

        return cast(GovernorSummary, ray.get(self.handle.summary.remote()))

    def stop_and_drain(self, seconds: float) -> int:
        """Let no call begin any more and wait up to ``seconds`` for the open ones; how many are left open."""
        import ray

        ray.get(self.handle.stop.remote(STOPPING))
        ends = time.monotonic() + seconds
        while (left := int(ray.get(self.handle.in_flight.remote()))) and time.monotonic() < ends:
            time.sleep(_POLL_S)
        return left


@contextmanager
def start_governor(
    limits: LimitsConfig, *, calls: str | None = None, paid: PaidTotals | None = None
) -> Iterator[RunningGovernor]:
    """A governor on the connected Ray for the body of the ``with``.

    ``paid`` is what earlier parts of the run cost. ``calls`` is where finished calls are kept: a
    governor that was restarted, and has forgotten, counts anew what was paid.
    """
    import ray

    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(GovernorActor)
    handle = actor.remote(limits, _as_paid(paid or PaidTotals()), calls)
    try:
        yield RunningGovernor(handle)
    finally:
        ray.kill(handle)


class GovernedPace(SyncedPace):
    """The pace of one client of a run's governor, whose ``handle`` is given."""

    def __init__(self, handle: Any, *, client: str | None = None) -> None:
        async def sync(report: Report) -> Grant:
            return cast(Grant, await handle.sync.remote(report))

        super().__init__(client or uuid.uuid4().hex, sync)
