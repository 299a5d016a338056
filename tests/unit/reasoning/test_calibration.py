"""Cutoffs, drift, and what a retracing search does when its scorer is lost."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from itertools import count
from statistics import NormalDist

import pytest
from search_cases import QUESTION

from reasoning.calibration import (
    CutoffMethod,
    Moments,
    drift,
    first_round_scores,
    fit_cutoff,
    watches_drift,
    with_cutoff,
)
from reasoning.errors import ConfigError, EngineError
from reasoning.protocols import ContinuationRequest, RewardReply, RewardRequest
from reasoning.search import run_search
from reasoning.search.config import Retrace, ScorerKind, ScoreSpread, SearchConfig, SelectorKind, Strategy
from reasoning.search.parts import needs_rewarder
from reasoning.search.result import SearchResult
from reasoning.stages import Stage, render_stage
from reasoning.testing import ScriptedEngine, ScriptedRewarder

FITTED = ScoreSpread(scorer=ScorerKind.REWARD, count=400, mean=-0.77, std=2.08)


def test_the_published_cutoff_is_the_normal_fit_at_60_percent() -> None:
    scores = NormalDist(-0.77, 2.08).samples(20_000, seed=1)
    normal = fit_cutoff(scores, 0.6, CutoffMethod.NORMAL)
    assert normal == pytest.approx(-0.243, abs=0.06)
    assert fit_cutoff(scores, 0.6, CutoffMethod.QUANTILE) == pytest.approx(normal, abs=0.06)


def test_the_quantile_counts_and_does_not_assume_a_shape() -> None:
    scores = [0.99, 0.0, 0.98, 1.0, 0.01]
    assert fit_cutoff(scores, 0.5, CutoffMethod.QUANTILE) == 0.98
    assert fit_cutoff(scores, 0.625, CutoffMethod.QUANTILE) == pytest.approx(0.985)
    assert fit_cutoff([3.0], 0.6, CutoffMethod.QUANTILE) == fit_cutoff([3.0], 0.6, CutoffMethod.NORMAL) == 3.0
    with pytest.raises(ConfigError, match="share"):
        fit_cutoff(scores, 1.0, CutoffMethod.QUANTILE)
    with pytest.raises(ConfigError, match="no scores"):
        fit_cutoff([], 0.6, CutoffMethod.QUANTILE)


def test_moments_add_up_in_any_order() -> None:
    scores = [random.Random(7).gauss(2, 3) for _ in range(10)] + [1e3, -0.25, math.inf, math.nan]
    parts = [Moments.of(scores[:3]), Moments.of(scores[3:9]), Moments.of(scores[9:])]
    whole = sum(parts, Moments())
    assert whole == Moments.of(scores) == parts[2] + parts[0] + parts[1]
    assert Moments.of([1.0, 3.0]).mean == 2.0
    assert Moments.of([1.0, 3.0]).std == pytest.approx(1.0)
    assert math.isnan(Moments().mean)


def test_drift_is_told_when_means_are_far_apart_and_not_before() -> None:
    def told(shift: float, number: int) -> str | None:
        return drift(FITTED, Moments.of([FITTED.mean + shift + FITTED.std * side for side in (-1, 1)] * (number // 2)))

    assert told(0.0, 1000) is None
    assert told(0.24 * FITTED.std, 10_000) is None
    assert told(0.4 * FITTED.std, 30) is None, "within three standard errors"
    assert told(5.0, 28) is None, "too few"
    said = told(0.4 * FITTED.std, 1000)
    assert said is not None
    assert "0.062 ± 2.08 (1,000 of them)" in said
    assert "-0.77 ± 2.08 (400)" in said


def test_a_cutoff_goes_to_searches_with_its_scorer() -> None:
    swires = SearchConfig(strategy=Strategy.SWIRES, scorer=ScorerKind.REWARD)
    fitted = with_cutoff(swires, -0.243, FITTED)
    assert (fitted.retrace.cutoff, fitted.retrace.expected) == (-0.243, FITTED)
    assert watches_drift(fitted)
    assert not watches_drift(swires)
    rated = SearchConfig(strategy=Strategy.SWIRES, scorer=ScorerKind.RATING)
    assert with_cutoff(rated, -0.243, FITTED) == rated


@pytest.mark.parametrize(
    ("strategy", "selector", "scorer", "is_needed"),
    [
        (Strategy.SWIRES, SelectorKind.JUDGE_LOGPROB, ScorerKind.REWARD, True),
        (Strategy.SWIRES, SelectorKind.SCORE, ScorerKind.RATING, False),
        (Strategy.BEST_OF_N, SelectorKind.WEIGHTED_VOTE, ScorerKind.REWARD, True),
        (Strategy.STAGE_BEAM, SelectorKind.SCORE, ScorerKind.REWARD, True),
        (Strategy.STAGE_BEAM, SelectorKind.JUDGE_LOGPROB, ScorerKind.REWARD, False),
        (Strategy.GREEDY, SelectorKind.SCORE, ScorerKind.REWARD, False),
    ],
)
def test_which_searches_need_a_reward_model(
    strategy: Strategy, selector: SelectorKind, scorer: ScorerKind, is_needed: bool
) -> None:
    assert needs_rewarder(SearchConfig(strategy=strategy, selector=selector, scorer=scorer)) is is_needed


def numbered(request: ContinuationRequest, index: int) -> str:
    assert request.stage is not None
    return render_stage(request.stage, f"{request.seeds[index] % 1000}")


class LosableRewarder(ScriptedRewarder):
    """Scores a text by its number; is lost at the calls that are named, the first being 0."""

    def __init__(self, *lost: int) -> None:
        super().__init__(lambda text: float(text.split()[-2]) / 1000 if "<" in text else float(text) / 1000)
        self.lost = lost
        self.calls = 0

    async def reward(self, requests: Sequence[RewardRequest]) -> list[RewardReply]:
        self.calls += 1
        if self.calls - 1 in self.lost:
            raise EngineError("gone")
        return await super().reward(requests)


def retrace(rewarder: LosableRewarder, **settings: object) -> SearchResult:
    ticks = count()
    config = SearchConfig(
        strategy=Strategy.SWIRES,
        scorer=ScorerKind.REWARD,
        retrace=Retrace(captions=2, kept=1, rounds=2, cutoff=2.0),
        **settings,  # type: ignore[arg-type]
    )
    engine = ScriptedEngine(numbered)
    search = run_search(QUESTION, config, generator=engine, rewarder=rewarder, clock=lambda: float(next(ticks)))
    return asyncio.run(search)


def test_a_scorer_that_is_lost_for_one_round_is_replaced_by_likelihood_there() -> None:
    result = retrace(LosableRewarder(1))
    assert result.fault is None
    assert result.trace.notes == ("reasoning: the scorer was lost (gone); took the likeliest instead",)
    reasonings = [one for one in result.trace.candidates if one.stage is Stage.REASONING]
    assert [one.score is None for one in reasonings] == [True, True, False, False]
    best = max(reasonings[2:], key=lambda one: one.score or 0)
    assert best.is_kept, "what was scored ranks before what was not"
    assert result.score_kind == "reward"


def test_a_scorer_that_is_lost_for_good_still_leaves_an_answer() -> None:
    result = retrace(LosableRewarder(*range(9)))
    assert (result.fault, result.score, result.score_kind) == (None, None, "none")
    assert len(result.trace.notes) == 5
    assert result.ledger.reward_tokens == 0


def test_reasonings_that_say_the_same_count_for_the_cutoff_and_are_scored_once() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        assert request.stage is not None
        return render_stage(request.stage, "900")

    rewarder = LosableRewarder()
    config = SearchConfig(
        strategy=Strategy.SWIRES, scorer=ScorerKind.REWARD, retrace=Retrace(captions=2, kept=1, rounds=3, cutoff=0.5)
    )
    engine = ScriptedEngine(write)
    result = asyncio.run(run_search(QUESTION, config, generator=engine, rewarder=rewarder, clock=lambda: 0.0))
    reasonings = [one for one in result.trace.candidates if one.stage is Stage.REASONING]
    assert [one.score for one in reasonings] == [0.9, 0.9], "one round, in which both drew the same"
    assert [len(batch) for batch in rewarder.batches] == [1, 1]


def test_without_fallback_a_lost_scorer_is_an_error() -> None:
    with pytest.raises(EngineError, match="gone"):
        retrace(LosableRewarder(1), judge_fallback=False)


def test_scores_of_the_first_round_are_told_from_later_ones() -> None:
    result = retrace(LosableRewarder())
    scores = [one.score for one in result.trace.candidates if one.stage is Stage.REASONING]
    assert len(scores) == 4
    config = SearchConfig(strategy=Strategy.SWIRES, retrace=Retrace(captions=2, kept=1, rounds=2))
    assert first_round_scores(result.trace, config) == scores[:2]
