"""Judges measured on a score run's own right and wrong answers."""

from __future__ import annotations

import asyncio

from annotation_cases import QUESTION

from pipelines.judge_check import JudgeCheckConfig, JudgePair, score_check
from reasoning.scorers import Rating
from reasoning.search.config import PromptStyle
from reasoning.testing import ScriptedEngine


def measured(rate: dict[str, float]) -> tuple[float, int, int]:
    engine = ScriptedEngine(rate=lambda text: rate[text])
    pairs = [JudgePair(question=QUESTION, stage=None, better=text, worse="flawed") for text in ("good", "so so", "odd")]
    config = JudgeCheckConfig(prompt_style=PromptStyle.COMPACT)
    report = asyncio.run(score_check(pairs, Rating(engine, style=PromptStyle.COMPACT), config))
    assert report.mode == "rating"
    return report.overall.accuracy.value, report.overall.undecided, report.overall.unreadable


def test_the_higher_rating_is_the_verdict_and_equal_ratings_are_none() -> None:
    assert measured({"good": 2.0, "so so": 1.0, "odd": 1.0, "flawed": 1.0}) == (1 / 3, 2, 0)
    assert measured({"good": 2.0, "so so": 0.0, "odd": float("nan"), "flawed": 1.0}) == (1 / 3, 1, 2)
