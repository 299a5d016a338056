"""Lets calls begin as a governor grants it: asked now and then, not for each call."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType

from actors.governing.allowance import Allowance
from actors.governing.core import Governor
from actors.governing.limits import LimitsConfig
from actors.governing.terms import CallCost, CallEnd, CallResult, GovernorSummary, Grant, Paid, Permit, Report

SYNC_S = 0.5
"""How often a client reports."""
_BLOCKED_S = 0.1
"""How often it does while calls wait for more than it was granted."""
_APART_S = 0.02
"""Two reports are never closer."""


class FreePace:
    """No limits: every call may begin at once."""

    async def permit(self, cost: CallCost) -> Permit:
        return Permit(number=0, cost=cost, started=0.0)

    def settle(self, permit: Permit, result: CallResult) -> None:
        return


class SyncedPace:
    """A ``Pace`` that keeps to the grants ``sync`` returns. One event loop; close it when done.

    Calls begin in the order in which they asked. What fails in ``sync`` is raised to all that wait.
    """

    def __init__(
        self,
        client: str,
        sync: Callable[[Report], Awaitable[Grant]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowance = Allowance(client)
        self._sync = sync
        self._clock = clock
        self._waiting: deque[tuple[CallCost, asyncio.Future[Permit]]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    async def __aenter__(self) -> SyncedPace:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def check(self) -> None:
        """Raise what ``permit`` would, if nothing more may be asked as far as is known here."""
        if self._failure is not None:
            raise self._failure
        if self._allowance.stop is not None:
            raise self._allowance.stop.error()

    async def permit(self, cost: CallCost) -> Permit:
        """See ``Pace.permit``."""
        self.check()
        now = self._clock()
        if not self._waiting and self._allowance.may_begin(cost, now):
            return self._allowance.begin(cost, now)
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, future))
        self._ensure_task()
        if len(self._waiting) == 1:
            self._wake.set()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.settle(future.result(), CallResult(end=CallEnd.UNUSED))
            raise

    def settle(self, permit: Permit, result: CallResult) -> None:
        """See ``Pace.settle``."""
        if self._allowance.end(permit, result, self._clock()):
            self._wake.set()
        self._begin_waiting()

    async def close(self) -> None:
        """Tell the governor that nothing more will come."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if self._failure is None:
            await self._sync(self._allowance.report([], self._clock(), is_last=True))

    def _ensure_task(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_in_step())

    async def _keep_in_step(self) -> None:
        try:
            while True:
                await self._sync_once()
                await asyncio.sleep(_APART_S)
                try:
                    async with asyncio.timeout(self._until_next_s()):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._begin_waiting()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  whoever waits must hear of it, whatever it is
            self._failure = error
            self._fail_waiting(error)

    async def _sync_once(self) -> None:
        self._wake.clear()
        self._drop_cancelled()
        grant = await self._sync(self._allowance.report([cost for cost, _ in self._waiting], self._clock()))
        self._allowance.apply(grant)
        if self._allowance.stop is not None:
            self._fail_waiting(self._allowance.stop.error())
        self._begin_waiting()

    def _until_next_s(self) -> float:
        if not self._waiting or self._allowance.stop is not None:
            return SYNC_S
        paused_s = self._allowance.paused_until - self._clock()
        return min(SYNC_S, paused_s) if paused_s > 0 else _BLOCKED_S

    def _begin_waiting(self) -> None:
        now = self._clock()
        while self._waiting:
            cost, future = self._waiting[0]
            if not future.done():
                if not self._allowance.may_begin(cost, now):
                    return
                future.set_result(self._allowance.begin(cost, now))
            self._waiting.popleft()

    def _drop_cancelled(self) -> None:
        self._waiting = deque(one for one in self._waiting if not one[1].done())

    def _fail_waiting(self, error: BaseException) -> None:
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()


class LocalPace(SyncedPace):
    """Limits for one process, without Ray."""

    def __init__(
        self, limits: LimitsConfig, *, paid: Paid | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        governor = Governor(limits, now=clock(), paid=paid)

        async def sync(report: Report) -> Grant:
            return governor.sync(report, clock())

        super().__init__("local", sync, clock=clock)
        self._governor = governor

    def governor_summary(self) -> GovernorSummary:
        """What was seen, up to the last report."""
        return self._governor.summary()
