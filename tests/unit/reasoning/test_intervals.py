"""Intervals against published or independently computed figures."""

from __future__ import annotations

import pytest

from reasoning.intervals import mcnemar, paired_bootstrap, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_newcombe(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_nothing_measured_is_nothing_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_mcnemar_is_the_mid_p_value() -> None:
    # Binomial(10, 1/2): P(X <= 1) = 11/1024, P(X = 1) = 10/1024.
    assert mcnemar(1, 9) == pytest.approx(2 * (11 - 5) / 1024)
    assert mcnemar(9, 1) == mcnemar(1, 9)
    assert mcnemar(0, 0) == mcnemar(7, 7) == 1.0
    assert mcnemar(4000, 6000) < 1e-80


def test_bootstrap_holds_the_difference() -> None:
    first, second = [True] * 40 + [False] * 60, [True] * 60 + [False] * 40
    interval = paired_bootstrap(first, second, seed=1)
    assert interval.low < 0.2 < interval.high
    assert interval.low > 0.1
    assert interval == paired_bootstrap(first, second, seed=1)
