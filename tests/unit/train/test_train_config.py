"""What a user is told about settings that cannot be, and what makes two runs the same."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from reasoning.errors import InputError
from reasoning.records import RowKind
from train.config import TrainConfig
from train.schedule import plan_run


def _config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"model": Path("m"), "data": (Path("d"),), "output": Path("o"), **changes})


def test_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="lerning_rate"):
        _config(lerning_rate=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zero_stage": 4}, "zero_stage"),
        ({"workers": 0}, "workers"),
        ({"data": ()}, "data"),
        ({"betas": (0.9, 1.0)}, r"TrainConfig.betas must lie in \[0, 1\), got \(0.9, 1.0\)"),
        ({"kind_repeats": {"direct": -1}}, r"TrainConfig.kind_repeats\[direct\] must be 0 or more, got -1"),
        ({"kind_repeats": {"poem": 1}}, "kind_repeats"),
        ({"learning_rate": float("inf")}, "TrainConfig.learning_rate must be finite, got inf"),
        ({"shuffle_window": 8, "batch_size_per_worker": 16}, r"shuffle_window \(8\) is smaller than .*\(16\)"),
    ],
)
def test_bad_value_is_refused_with_the_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _config(**changes)


def test_window_holds_whole_batches() -> None:
    assert _config(shuffle_window=100, batch_size_per_worker=16).window_rows == 96


def test_identity_ignores_what_does_not_change_the_result() -> None:
    assert _config().identity() == _config(output=Path("p"), max_failures=9, progress_every_steps=1).identity()
    assert _config().identity() != _config(seed=1).identity()


def test_config_survives_pickling() -> None:
    config = _config(kind_repeats={"direct": 2})
    assert pickle.loads(pickle.dumps(config)) == config
    assert config.kind_repeats == {RowKind.DIRECT: 2}


def test_too_few_rows_for_one_step_are_refused_with_the_numbers() -> None:
    with pytest.raises(InputError, match=r"31 training rows do not fill one optimizer step of 32 rows"):
        plan_run(_config(batch_size_per_worker=16), rows=31)


def test_plan_counts_whole_steps_of_every_epoch() -> None:
    plan = plan_run(_config(batch_size_per_worker=4, gradient_accumulation=2, epochs=3), rows=2 * (8 * 5 + 7))
    assert (plan.steps_per_epoch, plan.passes_per_epoch, plan.total_steps) == (5, 10, 15)
    assert plan.position(0) == (0, 0)
    assert plan.position(7) == (1, 2)
    assert plan.position(10) == (2, 0)


def test_max_steps_ends_the_run_early() -> None:
    assert plan_run(_config(batch_size_per_worker=4, epochs=3, max_steps=6), rows=40).total_steps == 6
