"""From a reward model's outputs to one number. Pure functions on plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from actors.rewards.config import StepJoin

# What a float can tell from 1: log-odds stay finite.
_NEAREST = 1e-12


def log_odds_of(logits: Sequence[float], label: int) -> float:
    """One label: its logit as it is. Several: the log-odds of ``label``'s softmax probability against the others'."""
    if len(logits) == 1:
        return logits[0]
    others = [value for number, value in enumerate(logits) if number != label]
    highest = max(others)
    return logits[label] - highest - math.log(sum(math.exp(value - highest) for value in others))


def log_odds_of_probability(probability: float) -> float:
    """The logit of a probability; of 0 and 1 that of the numbers nearest to them."""
    inside = min(max(probability, _NEAREST), 1 - _NEAREST)
    return math.log(inside) - math.log1p(-inside)


def joined(scores: Sequence[float], join: StepJoin) -> float:
    """Steps' logits as one logit; nan without steps, or where one is nan."""
    if not scores or any(math.isnan(score) for score in scores):
        return math.nan
    match join:
        case StepJoin.LAST:
            return scores[-1]
        case StepJoin.MIN:
            return min(scores)
        case StepJoin.MEAN:
            return log_odds_of_probability(sum(map(_probability, scores)) / len(scores))
        case StepJoin.PRODUCT:
            return log_odds_of_probability(math.prod(map(_probability, scores)))


def _probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
