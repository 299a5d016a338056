"""Selection by probability, with and without a scorer's evidence."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest

from reasoning.drafts import Draft
from reasoning.ledger import Ledger
from reasoning.posterior import Posterior
from reasoning.records import Question
from reasoning.scorers import Scoring
from reasoning.selectors import Selection
from reasoning.stages import Stage

QUESTION = Question(id="q", question="How many?")


class Given:
    """A scorer with the scores it was given."""

    kind = "given"

    def __init__(self, *scores: float | None, is_probability: bool = True) -> None:
        self.is_probability = is_probability
        self.asked = 0
        self._scores = scores

    async def score(self, question: Question, stage: Stage | None, drafts: Sequence[Draft]) -> Scoring:
        self.asked += 1
        return Scoring(scores=list(self._scores), ledger=Ledger(judge_tokens=7))


def drafts(*given: tuple[str, float, str]) -> list[Draft]:
    return [
        Draft(id=str(i), text=text, logprob=math.log(share) if share else math.nan, key=key)
        for i, (text, share, key) in enumerate(given)
    ]


def select(found: list[Draft], scorer: Given | None = None, keep: int = 1) -> Selection:
    return asyncio.run(Posterior(scorer).select(QUESTION, None, found, keep, 0))


def test_conclusions_add_up_the_probabilities_of_the_texts_behind_them() -> None:
    # Two ways to "3" are together likelier than the single likeliest text, which says "4".
    chosen = select(drafts(("a", 0.3, "4"), ("b", 0.2, "3"), ("c", 0.25, "3")))
    assert chosen.kept == ("2",)
    assert chosen.scores == pytest.approx({"0": 0.4, "1": 0.6, "2": 0.6})


def test_a_text_that_was_drawn_twice_counts_once() -> None:
    assert select(drafts(("a", 0.2, "4"), ("a", 0.2, "4"), ("b", 0.3, "3"))).kept == ("2",)


def test_a_scorer_multiplies_in_as_odds() -> None:
    found = drafts(("a", 0.3, "4"), ("b", 0.2, "3"))
    assert select(found, Given(0.5, 0.5)).kept == ("0",)
    weighed = select(found, Given(0.5, 0.75))
    assert weighed.kept == ("1",)
    assert weighed.scores == pytest.approx({"0": 0.3 / 0.9, "1": 0.6 / 0.9})
    assert weighed.ledger.judge_tokens == 7


def test_scores_of_any_size_are_log_odds_already() -> None:
    found = drafts(("a", 0.3, "4"), ("b", 0.3, "3"))
    assert select(found, Given(0.0, math.log(3), is_probability=False)).scores == pytest.approx({"0": 0.25, "1": 0.75})


def test_a_certain_scorer_is_bounded_and_one_without_a_score_says_nothing() -> None:
    found = drafts(("a", 0.3, "4"), ("b", 0.3, "3"))
    assert select(found, Given(1.0, 0.0)).kept == ("0",)
    assert select(found, Given(None, None)).scores == pytest.approx({"0": 0.5, "1": 0.5})
    assert select(found, Given(0.0, 1.0)).scores["0"] > 0


def test_the_scorer_is_not_asked_where_all_conclude_the_same() -> None:
    scorer = Given(0.1, 0.9)
    assert select(drafts(("a", 0.3, "3"), ("b", 0.2, "3")), scorer).kept == ("0",)
    assert scorer.asked == 0


def test_without_log_probabilities_the_draws_are_counted_and_the_selection_says_so() -> None:
    found = select(drafts(("a", 0, "4"), ("b", 0.9, "3"), ("a", 0, "4")))
    assert found.kept == ("0",)
    [note] = found.notes
    assert "no log-probabilities" in note


def test_stages_are_kept_by_their_own_probability() -> None:
    found = drafts(("a", 0.1, ""), ("b", 0.5, ""), ("c", 0.3, ""))
    assert select(found, keep=2).kept == ("1", "2")
