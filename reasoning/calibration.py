"""Where a retracing search stops: a cutoff fitted on scores of reasonings, and whether scores still lie as they did.

The published cutoff is the mean plus 0.2533 standard deviations, the 60th percentile of a normal
distribution (arXiv 2411.10440 v6). It belongs to a model, a scorer and a kind of question.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from reasoning.errors import ConfigError
from reasoning.ledger import Summable
from reasoning.search.config import ScoreSpread, SearchConfig, Strategy
from reasoning.seeds import derive_seed
from reasoning.stages import Stage
from reasoning.trace import Trace

# A mean of fewer scores than this says nothing.
_FEWEST_TO_TELL = 30
_STANDARD_ERRORS = 3.0
_STANDARD_DEVIATIONS = 0.25


class CutoffMethod(StrEnum):
    QUANTILE = "quantile"
    """The score that ``share`` of the reasonings do not exceed, as counted; for scores of any shape."""
    NORMAL = "normal"
    """As published: the same for a normal distribution with the scores' mean and standard deviation."""


@dataclass(frozen=True, kw_only=True)
class Moments(Summable):
    """Scores added up in whole millionths, so that sums are exact in any order."""

    count: int = 0
    micro: int = 0
    """Sum of the scores, in millionths."""
    micro_squares: int = 0
    """Sum of their squares, in millionths."""

    @classmethod
    def of(cls, scores: Sequence[float]) -> Moments:
        """Of finite scores; the others are left out."""
        known = [score for score in scores if math.isfinite(score)]
        return cls(
            count=len(known),
            micro=sum(round(score * 1e6) for score in known),
            micro_squares=sum(round(score * score * 1e6) for score in known),
        )

    @property
    def mean(self) -> float:
        return self.micro / self.count / 1e6 if self.count else math.nan

    @property
    def std(self) -> float:
        """Of the scores themselves, not an estimate for others."""
        return math.sqrt(max(0.0, self.micro_squares / self.count / 1e6 - self.mean**2)) if self.count else math.nan


def fit_cutoff(scores: Sequence[float], share: float, method: CutoffMethod) -> float:
    """The cutoff that ``share`` of ``scores`` do not exceed.

    The quantile is interpolated between neighbours, as numpy's default. Raises ConfigError for a share
    outside (0, 1), or without scores.
    """
    if not 0 < share < 1:
        raise ConfigError(f"share must lie in (0, 1), got {share}; 0.6 is the published one")
    if not scores:
        raise ConfigError("a cutoff cannot be fitted on no scores at all")
    if method is CutoffMethod.NORMAL:
        return statistics.fmean(scores) + statistics.NormalDist().inv_cdf(share) * statistics.pstdev(scores)
    return quantile(sorted(scores), share)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of ascending numbers, at least one."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def with_cutoff(search: SearchConfig, cutoff: float, expected: ScoreSpread) -> SearchConfig:
    """The search with a fitted cutoff; unchanged when it scores by something else."""
    if search.scorer is not expected.scorer:
        return search
    return replace(search, retrace=replace(search.retrace, cutoff=cutoff, expected=expected))


def watches_drift(search: SearchConfig) -> bool:
    """Whether this search's scores can be held against those that its cutoff was fitted on."""
    expected = search.retrace.expected
    return search.strategy is Strategy.SWIRES and expected is not None and expected.scorer is search.scorer


def first_round_scores(trace: Trace, search: SearchConfig) -> list[float]:
    """Scores of the reasonings of a retracing search's first round.

    Later rounds are drawn only where the first one's scores are low; with them in it a mean would say
    more of the cutoff than of the scores.
    """
    attempts = range(search.repair_attempts + 1)
    seeds = {
        derive_seed(search.seed, trace.question_id, Stage.REASONING, index, attempt)
        for index in range(search.retrace.captions)
        for attempt in attempts
    }
    return [
        one.score
        for one in trace.candidates
        if one.stage is Stage.REASONING and one.score is not None and one.seed in seeds
    ]


def drift(expected: ScoreSpread, seen: Moments) -> str | None:
    """In words how scores differ from those that the cutoff was fitted on; None when they do not, or are too few.

    They differ when their means are more than 3 standard errors and a quarter of a standard deviation apart.
    """
    if seen.count < _FEWEST_TO_TELL:
        return None
    apart = abs(seen.mean - expected.mean)
    error = expected.std * math.sqrt(1 / seen.count + 1 / expected.count)
    if apart <= max(_STANDARD_ERRORS * error, _STANDARD_DEVIATIONS * expected.std):
        return None
    return (
        f"reasonings score {seen.mean:.4g} ± {seen.std:.4g} ({seen.count:,} of them), the cutoff was fitted on "
        f"{expected.mean:.4g} ± {expected.std:.4g} ({expected.count:,}); run `stagebeam calibrate` anew"
    )
