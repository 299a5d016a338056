"""How many calls an endpoint bears at a time, found out by its refusals.

As TCP does it: doubling until the first refusal, then additive increase and multiplicative
decrease. What was refused is remembered: below it the way back is short, beyond it a step is tried
only after many calls went well, so that looking for more costs hardly any call.
"""

from __future__ import annotations

_CALM_CALLS = 200
_CALM_ROUNDS = 8
"""So many calls, and so many times the number open, must have gone well since a refusal before more is tried."""
_WAY_BACK = 8
"""A round without refusal makes up this part of what is left to the number that was refused."""


class Concurrency:
    """The number of calls that may be open; ``level`` is read, the rest are events."""

    def __init__(self, *, start: int, most: int | None, decrease: float) -> None:
        self._most = most
        self._decrease = decrease
        self.level = self._capped(start)
        self.lowest = self.highest = self.level
        self._refused_at: int | None = None
        """The level that the endpoint last refused; None: none yet, and it is doubled."""
        self._is_doubling = True
        self._round = 0
        """Calls answered since the level last rose."""
        self._calm = 0
        self._deaf_until = 0.0

    def answered(self, calls: int, *, is_needed: bool) -> None:
        """``calls`` went well. The level rises only if it ``is_needed``: if it holds calls back."""
        self._calm += calls
        if not is_needed:
            return
        if self._is_doubling:
            self._set(self.level + calls)
            return
        self._round += calls
        while self._round >= self.level:
            self._round -= self.level
            if not self._rise():
                self._round = 0
                return

    def refused(self, now: float, *, in_flight: int, latency_s: float) -> None:
        """A call got 429 or 5xx while ``in_flight`` were open; those of one latency are one refusal."""
        self._calm = self._round = 0
        if now < self._deaf_until:
            return
        self._deaf_until = now + latency_s
        self._is_doubling = False
        # A level that is not made use of was not what the endpoint refused.
        at = max(1, min(self.level, in_flight))
        self._refused_at = at
        self._set(max(1, int(at * self._decrease)))

    def resume_at(self, level: int) -> None:
        """Go on from what another governor had come to."""
        self._is_doubling = False
        self._set(max(1, level))

    def _rise(self) -> bool:
        before = self.level
        if self._refused_at is None or self.level >= self._refused_at:
            # Beyond all that was refused, or never refused: one more each round.
            if self._refused_at is None or self._is_calm():
                self._set(self.level + 1)
            return self.level > before
        gap = self._refused_at - 1 - self.level
        if gap > 0:
            self._set(self.level + max(1, gap // _WAY_BACK))
        elif self._is_calm():
            self._set(self.level + 1)
        return self.level > before

    def _is_calm(self) -> bool:
        return self._calm >= max(_CALM_CALLS, _CALM_ROUNDS * self.level)

    def _set(self, level: int) -> None:
        self.level = self._capped(level)
        self.lowest, self.highest = min(self.lowest, self.level), max(self.highest, self.level)

    def _capped(self, level: int) -> int:
        return level if self._most is None else min(level, self._most)
