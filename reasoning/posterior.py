"""Selection by what the generator itself holds likely, with or without a scorer's evidence.

A vote estimates how probable a conclusion is by counting how often it was drawn. The generator's own
probability of each text says it without counting: texts that say the same count once, each by its
probability, and those with the same conclusion add up (perplexity consistency, arXiv 2502.00511).
A scorer that can tell right from wrong multiplies in as odds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from reasoning.drafts import Draft, distinct
from reasoning.records import Question
from reasoning.scorers import Scorer, Scores, Scoring
from reasoning.selectors import Selection
from reasoning.stages import Stage

# Beyond 1 : 10,000 a scorer's certainty is its rounding.
_MOST_LOG_ODDS = math.log(1e4)


class Posterior:
    """The most probable conclusion, or stage, under the generator, times the odds of ``scorer`` if there is one.

    Of a conclusion the most probable text is kept. Where the engine gives no log-probabilities, how
    often a text was drawn stands for them, and the selection says so. A draft without score counts as
    undecided. All ties keep writing order; a scorer is not asked when all conclude the same.
    """

    def __init__(self, scorer: Scorer | None = None) -> None:
        self._scorer = scorer

    @property
    def score_kind(self) -> str:
        """A conclusion's share among all that were drawn."""
        return "posterior"

    async def select(
        self, question: Question, stage: Stage | None, drafts: Sequence[Draft], keep: int, seed: int
    ) -> Selection:
        standing = distinct(drafts)
        meant = [draft.key or draft.id for draft in standing]
        evidence, notes = _log_probabilities(stage, drafts, standing)
        found = Scoring(scores=[])
        if self._scorer is not None and len(set(meant)) > 1:
            found = await self._scorer.score(question, stage, standing)
            odds = _log_odds(found.scores, is_probability=self._scorer.is_probability)
            evidence = [known + more for known, more in zip(evidence, odds, strict=True)]
        weights = [math.exp(value - max(evidence)) for value in evidence]
        shares: dict[str, float] = {}
        for name, weight in zip(meant, weights, strict=True):
            shares[name] = shares.get(name, 0.0) + weight / sum(weights)
        order = sorted(range(len(standing)), key=lambda i: (-shares[meant[i]], -weights[i]))
        return Selection(
            kept=tuple(standing[i].id for i in order[:keep]),
            scores={draft.id: shares[name] for draft, name in zip(standing, meant, strict=True)},
            comparisons=found.comparisons,
            ledger=found.ledger,
            notes=notes,
        )


def _log_probabilities(
    stage: Stage | None, drafts: Sequence[Draft], standing: Sequence[Draft]
) -> tuple[list[float], tuple[str, ...]]:
    known = [draft.logprob for draft in standing]
    if all(math.isfinite(value) for value in known):
        return known, ()
    drawn = Counter((tuple(draft.prior.values()), draft.text) for draft in drafts)
    counts = [math.log(drawn[tuple(draft.prior.values()), draft.text]) for draft in standing]
    name = stage.lower() if stage else "answer"
    return counts, (f"{name}: the engine gives no log-probabilities; how often a text was drawn stood for them",)


def _log_odds(scores: Scores, *, is_probability: bool) -> list[float]:
    if not is_probability:
        return [0.0 if score is None else score for score in scores]
    return [0.0 if score is None else _logit(score) for score in scores]


def _logit(share: float) -> float:
    if share <= 0 or share >= 1:
        return math.copysign(_MOST_LOG_ODDS, share - 0.5)
    return max(-_MOST_LOG_ODDS, min(_MOST_LOG_ODDS, math.log(share / (1 - share))))
