"""How sure a measured accuracy or difference is."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """Both ends, included."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; (0, 1) when ``n`` is 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, n={n}], got {successes}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the edges the formula gives 0 and 1 but for rounding.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return Interval(low, high)


def mcnemar(b: int, c: int) -> float:
    """Two-sided mid-p value that two systems on the same questions are equally good.

    ``b`` questions only the first got right, ``c`` only the second; 1.0 when they never differ.
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts must not be negative, got {b} and {c}")
    n = b + c
    if n == 0 or b == c:
        return 1.0
    few = min(b, c)
    log_half = n * math.log(0.5)
    terms = [math.exp(_log_choose(n, k) + log_half) for k in range(few + 1)]
    return min(1.0, 2 * (math.fsum(terms) - terms[-1] / 2))


def paired_bootstrap(
    first: Sequence[bool], second: Sequence[bool], *, seed: int, confidence: float = 0.95, resamples: int = 2000
) -> Interval:
    """Percentile interval of accuracy(second) - accuracy(first) over the same questions in the same order."""
    if len(first) != len(second) or not first:
        raise ValueError(f"both must answer the same questions, got {len(first)} and {len(second)}")
    draws = random.Random(seed)
    differences = [int(b) - int(a) for a, b in zip(first, second, strict=True)]
    n = len(differences)
    means = sorted(sum(draws.choices(differences, k=n)) / n for _ in range(resamples))
    tail = (1 - confidence) / 2
    return Interval(means[int(tail * (resamples - 1))], means[math.ceil((1 - tail) * (resamples - 1))])


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
