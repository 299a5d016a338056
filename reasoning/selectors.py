"""Who goes on: the rules by which candidates are chosen.

A selector sees drafts and says which are kept; it changes none of them and draws no candidate. All
ties keep writing order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from reasoning.drafts import Draft, distinct
from reasoning.errors import EngineError
from reasoning.ledger import Ledger
from reasoning.records import Question
from reasoning.scorers import Scorer, Scores, weights
from reasoning.stages import Stage
from reasoning.trace import Comparison, Verdict


@dataclass(frozen=True, kw_only=True)
class Selection:
    """``kept`` lists draft ids, best first; ``scores`` holds those drafts that were scored."""

    kept: tuple[str, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)
    notes: tuple[str, ...] = ()
    """What did not go as configured."""


class Selector(Protocol):
    """Chooses among drafts."""

    @property
    def score_kind(self) -> str:
        """What its scores are, see ``SearchResult.score_kind``."""
        ...

    async def select(
        self, question: Question, stage: Stage | None, drafts: Sequence[Draft], keep: int, seed: int
    ) -> Selection:
        """Which ``keep`` of ``drafts`` (in writing order, ids unique); all of them if they are no more."""
        ...


@dataclass(frozen=True)
class Likeliest:
    """The highest mean log-probability a token under the generator."""

    score_kind: str = "mean_logprob"

    async def select(
        self, question: Question, stage: Stage | None, drafts: Sequence[Draft], keep: int, seed: int
    ) -> Selection:
        best = sorted(drafts, key=lambda draft: -likelihood(draft))[:keep]
        known = {draft.id: draft.mean_logprob for draft in drafts if math.isfinite(draft.mean_logprob)}
        missing = len(drafts) - len(known) if len(drafts) > keep else 0
        note = f"{_name(stage)}: {missing} of {len(drafts)} have no likelihood, which the engine does not give"
        return Selection(
            kept=tuple(draft.id for draft in best),
            scores=known,
            notes=(f"{note}; among these writing order decided",) if missing else (),
        )


@dataclass(frozen=True)
class MostVotes:
    """The conclusion most whole answers give, by its likeliest draft; equal counts go to the likelier."""

    score_kind: str = "vote_share"

    async def select(
        self, question: Question, stage: Stage | None, drafts: Sequence[Draft], keep: int, seed: int
    ) -> Selection:
        votes: dict[str, int] = {}
        for draft in drafts:
            votes[draft.key] = votes.get(draft.key, 0) + 1
        best = sorted(drafts, key=lambda draft: (-votes[draft.key], -likelihood(draft)))[:keep]
        return Selection(
            kept=tuple(draft.id for draft in best),
            scores={draft.id: votes[draft.key] / len(drafts) for draft in drafts},
        )


class HighestScore:
    """The highest score by a scorer; who has none comes last."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    @property
    def score_kind(self) -> str:
        """What the scorer's numbers are."""
        return self._scorer.kind

    async def select(
        self, question: Question, stage: Stage | None, drafts: Sequence[Draft], keep: int, seed: int
    ) -> Selection:
        standing = distinct(drafts)
        if len(standing) <= keep:
            return Selection(kept=tuple(draft.id for draft in standing))
        found = await self._scorer.score(question, stage, standing)
        known = {draft.id: score for draft, score in zip(standing, found.scores, strict=True) if score is not None}
        best = sorted(standing, key=lambda draft: -known.get(draft.id, -math.inf))[:keep]
        return Selection(
            kept=tuple(draft.id for draft in best),
            scores=known,
            comparisons=found.comparisons,
            ledger=found.ledger,
            notes=_unscored(stage, found.scores),
        )


class WeightedVote:
    """Votes for conclusions, each weighing what a scorer says; of the winning conclusion the best scored draft.

    Drafts that say the same are scored once and vote each.
    """

    score_kind = "vote_share"

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def select(
        self, question: Question, stage: Stage | None, drafts: Sequence[Draft], keep: int, seed: int
    ) -> Selection:
        if len({draft.key for draft in drafts}) == 1:
            return await MostVotes().select(question, stage, drafts, keep, seed)
        standing = distinct(drafts)
        found = await self._scorer.score(question, stage, standing)
        weighs = weights(found.scores, is_probability=self._scorer.is_probability)
        by_text = {draft.text: weight for draft, weight in zip(standing, weighs, strict=True)}
        votes: dict[str, float] = {}
        for draft in drafts:
            votes[draft.key] = votes.get(draft.key, 0.0) + by_text[draft.text]
        total = sum(votes.values())
        best = sorted(drafts, key=lambda d: (-votes[d.key], -by_text[d.text], -likelihood(d)))[:keep]
        return Selection(
            kept=tuple(draft.id for draft in best),
            scores={draft.id: votes[draft.key] / total for draft in drafts},
            comparisons=found.comparisons,
            ledger=found.ledger,
            notes=_unscored(stage, found.scores),
        )


class WithFallback:
    """Another selector, and what is done when its judge is lost or says nothing that can be read.

    Then whole answers are voted on and of stages the likeliest is taken; the selection says so.
    """

    def __init__(self, selector: Selector) -> None:
        self._selector = selector

    @property
    def score_kind(self) -> str:
        """What the other selector's scores are."""
        return self._selector.score_kind

    async def select(
        self, question: Question, stage: Stage | None, drafts: Sequence[Draft], keep: int, seed: int
    ) -> Selection:
        try:
            selection = await self._selector.select(question, stage, drafts, keep, seed)
        except EngineError as error:
            return await self._instead(question, stage, drafts, keep, seed, f"the judge was lost ({error})", Ledger())
        met = selection.comparisons
        if met and all(one.verdict is Verdict.UNREADABLE for one in met):
            said = f"none of {len(met)} verdicts could be read"
            instead = await self._instead(question, stage, drafts, keep, seed, said, selection.ledger)
            return replace(instead, comparisons=met)
        return selection

    async def _instead(
        self,
        question: Question,
        stage: Stage | None,
        drafts: Sequence[Draft],
        keep: int,
        seed: int,
        reason: str,
        spent: Ledger,
    ) -> Selection:
        is_whole = stage is None
        selector = MostVotes() if is_whole else Likeliest()
        done = "voted" if is_whole else "took the likeliest"
        selection = await selector.select(question, stage, distinct(drafts) if not is_whole else drafts, keep, seed)
        note = f"{_name(stage)}: {reason}; {done} instead"
        return replace(selection, scores={}, ledger=spent, notes=(note, *selection.notes))


def likelihood(draft: Draft) -> float:
    """What a draft is ranked by: its mean log-probability, below every number where the engine gave none."""
    return draft.mean_logprob if math.isfinite(draft.mean_logprob) else -math.inf


def _name(stage: Stage | None) -> str:
    return stage.lower() if stage else "answer"


def _unscored(stage: Stage | None, scores: Scores) -> tuple[str, ...]:
    missing = sum(score is None for score in scores)
    return (f"{_name(stage)}: {missing} of {len(scores)} got no score",) if missing else ()
