"""Annotation with the real command under SIGKILL; ``benchmarks/annotate_chaos.md`` has many more such runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.annotate_chaos import chaos_run

VICTIMS = ("driver", "actor", "teacher")
"""The governor has its own test (tests/cluster/test_governor_actor.py); the benchmark kills it too."""
SEED = int(os.environ.get("CHAOS_SEED", "1"))
"""Set it to another number for other moments and other questions."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_is_lost_doubled_or_paid_twice(victim: str, tmp_path: Path) -> None:
    outcome = chaos_run(tmp_path, victim=victim, seed=SEED + VICTIMS.index(victim), rows=90)
    assert (outcome.lost, outcome.doubled, outcome.paid_again) == (0, 0, 0)
    assert outcome.exit_codes[-1] == 0
    assert outcome.calls >= 90
    # A driver's death ends its part; whoever else dies is replaced while the run goes on.
    assert outcome.parts == (2 if victim == "driver" else 1)
