"""The learning rate over a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.config import Schedule, TrainConfig
from train.schedule import learning_rate


def _config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"model": Path("m"), "data": (Path("d"),), "output": Path("o"), **changes})


def test_rises_to_the_peak_and_falls_to_the_end() -> None:
    config = _config(learning_rate=1.0, warmup_fraction=0.1, final_fraction=0.2)
    rates = [learning_rate(config, step, 100) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.2)


def test_cosine_and_linear_meet_half_way() -> None:
    for schedule in (Schedule.COSINE, Schedule.LINEAR):
        config = _config(learning_rate=2.0, warmup_fraction=0.0, schedule=schedule)
        assert learning_rate(config, 50, 100) == pytest.approx(1.0)


def test_constant_stays_at_the_peak() -> None:
    config = _config(learning_rate=0.5, warmup_fraction=0.0, schedule=Schedule.CONSTANT)
    assert {learning_rate(config, step, 10) for step in range(1, 11)} == {0.5}


@given(
    total=st.integers(1, 500),
    warmup=st.floats(0, 0.99),
    final=st.floats(0, 1),
    schedule=st.sampled_from(list(Schedule)),
)
def test_never_negative_and_never_above_the_peak(total: int, warmup: float, final: float, schedule: Schedule) -> None:
    config = _config(learning_rate=1.0, warmup_fraction=warmup, final_fraction=final, schedule=schedule)
    assert all(0 <= learning_rate(config, step, total) <= 1 + 1e-12 for step in range(1, total + 1))
