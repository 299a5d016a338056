"""What gives a candidate a number of its own: likelihood, a rating, its wins against the others, a reward model.

A score that could not be had, or is no number, is None: it ranks below every number and is never
taken for one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reasoning.drafts import Draft
from reasoning.judges import Contender, PairwiseJudge, as_comparison, share_of_first
from reasoning.ledger import Ledger
from reasoning.prompts import RATING_OPTIONS, rating_prompt
from reasoning.protocols import ChoiceRequest, Chooser, Rewarder, RewardRequest
from reasoning.records import Question
from reasoning.search.config import PromptStyle
from reasoning.stages import Stage
from reasoning.trace import Comparison

Scores = list[float | None]


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What scoring drafts gave, in their order."""

    scores: Scores
    ledger: Ledger = field(default_factory=Ledger)
    comparisons: tuple[Comparison, ...] = ()
    """Those the scores are made of."""


class Scorer(Protocol):
    """Scores drafts, higher is better."""

    @property
    def kind(self) -> str:
        """What its scores are, see ``SearchResult.score_kind``."""
        ...

    @property
    def is_probability(self) -> bool:
        """Whether scores lie in [0, 1]; else they are logits of any size."""
        ...

    async def score(self, question: Question, stage: Stage | None, drafts: Sequence[Draft]) -> Scoring:
        """A score for each draft, in one batch; raises EngineError when what it asks is lost."""
        ...


@dataclass(frozen=True)
class Likelihood:
    """Mean log-probability a token under the generator."""

    kind: str = "mean_logprob"
    is_probability: bool = False

    async def score(self, question: Question, stage: Stage | None, drafts: Sequence[Draft]) -> Scoring:
        return Scoring(scores=[_number(draft.mean_logprob) for draft in drafts])


class Rating:
    """The probability that a model says "yes" rather than "no" when asked whether a draft is right."""

    kind = "rating"
    is_probability = True

    def __init__(self, engine: Chooser, *, style: PromptStyle = PromptStyle.STANDARD) -> None:
        self._engine = engine
        self._style = style

    async def score(self, question: Question, stage: Stage | None, drafts: Sequence[Draft]) -> Scoring:
        requests = [
            ChoiceRequest(
                prompt=rating_prompt(self._style, question, stage, draft.prior, draft.text),
                image=question.image,
                prefix="",
                options=RATING_OPTIONS,
                stage=stage,
                history=question.history,
            )
            for draft in drafts
        ]
        if not requests:
            return Scoring(scores=[])
        replies = await self._engine.choose(requests)
        cost = sum((Ledger.of_judging(reply.usage) for reply in replies), Ledger())
        scores = [share_of_first(*reply.logprobs) for reply in replies]
        return Scoring(scores=scores, ledger=cost + Ledger.of_step())


class RoundRobin:
    """Mean probability of winning against each of the other drafts: all pairs, in one batch."""

    kind = "win_probability"
    is_probability = True

    def __init__(self, judge: PairwiseJudge) -> None:
        self._judge = judge

    async def score(self, question: Question, stage: Stage | None, drafts: Sequence[Draft]) -> Scoring:
        contenders = [Contender(text=draft.text, prior=draft.prior) for draft in drafts]
        games = [(i, j) for i in range(len(drafts)) for j in range(i + 1, len(drafts))]
        opinions, cost = await self._judge.compare(question, stage, [(contenders[i], contenders[j]) for i, j in games])
        shares: list[list[float]] = [[] for _ in drafts]
        for (i, j), said in zip(games, opinions, strict=True):
            if (share := said.share_of_first) is not None:
                shares[i].append(share)
                shares[j].append(1 - share)
        met = [
            as_comparison(said, stage, drafts[i].id, drafts[j].id) for (i, j), said in zip(games, opinions, strict=True)
        ]
        scores = [sum(found) / len(found) if found else None for found in shares]
        return Scoring(scores=[0.5] if len(drafts) == 1 else scores, ledger=cost, comparisons=tuple(met))


class Reward:
    """The number a reward model gives."""

    kind = "reward"
    is_probability = False

    def __init__(self, model: Rewarder) -> None:
        self._model = model

    async def score(self, question: Question, stage: Stage | None, drafts: Sequence[Draft]) -> Scoring:
        requests = [
            RewardRequest(question=question, stage=stage, prior=draft.prior, text=draft.text) for draft in drafts
        ]
        if not requests:
            return Scoring(scores=[])
        replies = await self._model.reward(requests)
        cost = sum((Ledger.of_reward(reply.usage) for reply in replies), Ledger())
        return Scoring(scores=[_number(reply.score) for reply in replies], ledger=cost + Ledger.of_step())


def weights(scores: Scores, *, is_probability: bool) -> list[float]:
    """What each score weighs in a vote: a probability itself, of logits the softmax; no score weighs nothing.

    Without a single score all weigh the same.
    """
    known = [score for score in scores if score is not None]
    if not known or (is_probability and not any(known)):
        return [1.0] * len(scores)
    if is_probability:
        return [score or 0.0 for score in scores]
    highest = max(known)
    return [0.0 if score is None else math.exp(score - highest) for score in scores]


def _number(score: float) -> float | None:
    return score if math.isfinite(score) else None
