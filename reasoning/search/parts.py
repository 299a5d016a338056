"""The selector, the scorer and the judge that a configuration names."""

from __future__ import annotations

from reasoning.errors import ConfigError
from reasoning.judges import JudgeMode, PairwiseJudge
from reasoning.knockout import Knockout
from reasoning.posterior import Posterior
from reasoning.protocols import Engine, Rewarder
from reasoning.scorers import Likelihood, Rating, Reward, RoundRobin, Scorer
from reasoning.search.config import ScorerKind, SearchConfig, SelectorKind, Strategy
from reasoning.selectors import HighestScore, Likeliest, MostVotes, Selector, WeightedVote, WithFallback


def build_selector(config: SearchConfig, judge: Engine | None, rewarder: Rewarder | None = None) -> Selector:
    """The selector that ``config`` names; raises ConfigError when it needs what it was not given.

    A single sample needs no judge.
    """
    match config.selector:
        case SelectorKind.LIKELIHOOD:
            return Likeliest()
        case SelectorKind.VOTE:
            return MostVotes()
        case SelectorKind.PROBABILITY:
            return Posterior()
        case _ if config.samples == 1 and not config.samples_by_stage:
            return Likeliest()
        case SelectorKind.JUDGE_LOGPROB | SelectorKind.JUDGE_TEXT:
            pairwise = build_judge(config, judge)
            selector: Selector = Knockout(pairwise, check_reasoning=config.check_reasoning, pairing=config.pairing)
        case SelectorKind.SCORE:
            selector = HighestScore(build_scorer(config, judge, rewarder))
        case SelectorKind.WEIGHTED_VOTE:
            selector = WeightedVote(build_scorer(config, judge, rewarder))
        case SelectorKind.POSTERIOR:
            selector = Posterior(build_scorer(config, judge, rewarder))
    return WithFallback(selector) if config.judge_fallback else selector


def needs_rewarder(config: SearchConfig) -> bool:
    """Whether the search asks a reward model."""
    return config.scorer is ScorerKind.REWARD and _scores(config)


def needs_likelihood(config: SearchConfig) -> bool:
    """Whether the search ranks by likelihood alone, so that it is worth nothing without log-probabilities."""
    match config.strategy:
        case _ if config.scorer is ScorerKind.LIKELIHOOD and _scores(config):
            return True
        case Strategy.DIRECT | Strategy.GREEDY | Strategy.SELF_CONSISTENCY | Strategy.SWIRES:
            return False
        case _:
            return config.selector is SelectorKind.LIKELIHOOD


def _scores(config: SearchConfig) -> bool:
    """Whether the search has its candidates scored."""
    match config.strategy:
        case Strategy.SWIRES:
            return True
        case Strategy.DIRECT | Strategy.GREEDY | Strategy.SELF_CONSISTENCY:
            return False
        case _:
            return config.selector in (SelectorKind.SCORE, SelectorKind.WEIGHTED_VOTE, SelectorKind.POSTERIOR)


def build_scorer(config: SearchConfig, judge: Engine | None, rewarder: Rewarder | None = None) -> Scorer:
    """The scorer that ``config`` names; raises ConfigError when it needs what it was not given."""
    match config.scorer:
        case ScorerKind.LIKELIHOOD:
            return Likelihood()
        case ScorerKind.ROUND_ROBIN:
            return RoundRobin(build_judge(config, judge))
        case ScorerKind.RATING:
            if judge is None:
                raise ConfigError("SearchConfig.scorer 'rating' needs a judge engine, and none was given")
            return Rating(judge, style=config.prompt_style)
        case ScorerKind.REWARD:
            if rewarder is None:
                raise ConfigError("SearchConfig.scorer 'reward' needs a reward model, and none was given")
            return Reward(rewarder)


def build_judge(config: SearchConfig, judge: Engine | None) -> PairwiseJudge:
    """The pairwise judge that ``config`` names; written verdicts for ``judge_text``, else log-probabilities."""
    if judge is None:
        raise ConfigError(f"SearchConfig.selector {config.selector.value!r} needs a judge engine, and none was given")
    mode = JudgeMode.TEXT if config.selector is SelectorKind.JUDGE_TEXT else JudgeMode.LOGPROB
    return PairwiseJudge(
        judge,
        mode=mode,
        style=config.prompt_style,
        both_orders=config.judge_both_orders,
        unreadable=config.unreadable_verdict,
    )
