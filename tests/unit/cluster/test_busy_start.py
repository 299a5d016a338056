"""A Ray that does not come up in time is started again."""

from __future__ import annotations

import pytest

from cluster.connect import started_on_busy_machine
from reasoning.errors import StagebeamError

LATE = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


class Starts:
    """The first ``failures`` starts end in ``message``."""

    def __init__(self, failures: int, message: str = LATE) -> None:
        self.calls = self.cleared = 0
        self._failures, self._message = failures, message

    def start(self) -> None:
        self.calls += 1
        if self.calls <= self._failures:
            raise RuntimeError(self._message)

    def clear(self) -> None:
        self.cleared += 1


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_late_start_is_cleared_away_and_tried_again(failures: int) -> None:
    ray = Starts(failures)
    started_on_busy_machine(ray.start, ray.clear)
    assert (ray.calls, ray.cleared) == (failures + 1, failures)


def test_the_last_late_start_says_that_the_machine_is_busy() -> None:
    ray = Starts(9)
    with pytest.raises(StagebeamError, match="3 times: the machine is too busy"):
        started_on_busy_machine(ray.start, ray.clear)
    assert ray.calls == 3


def test_other_failures_are_not_tried_again() -> None:
    ray = Starts(1, "no such file")
    with pytest.raises(RuntimeError, match="no such file"):
        started_on_busy_machine(ray.start, ray.clear)
    assert (ray.calls, ray.cleared) == (1, 0)
