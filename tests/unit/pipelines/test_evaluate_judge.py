"""A judge's skill, its order bias and its length bias are told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import made_up
import pytest

from pipelines.judge_check import JudgeCheckConfig, JudgePair, judge_check
from pipelines.measures import JudgeReport
from reasoning.errors import ConfigError
from reasoning.judges import JudgeMode
from reasoning.search.config import PromptStyle
from reasoning.stages import Stage
from reasoning.testing import ScriptedEngine


def pairs(count: int = 4, *, better: str = "good words", worse: str = "bad") -> list[JudgePair]:
    stages = (Stage.CAPTION, Stage.CONCLUSION)
    return [
        JudgePair(question=made_up.question(i), stage=stages[i % 2], better=f"{better} {i}", worse=f"{worse} {i}")
        for i in range(count)
    ]


def check(engine: ScriptedEngine, asked: Sequence[JudgePair], mode: JudgeMode = JudgeMode.LOGPROB) -> JudgeReport:
    config = JudgeCheckConfig(mode=mode, prompt_style=PromptStyle.COMPACT, model="tiny")
    return asyncio.run(judge_check(asked, engine, config))


def knows_good(first: str, second: str) -> float:
    return 2.0 * (first.startswith("good") - second.startswith("good"))


def test_judge_that_knows_is_right_in_both_orders() -> None:
    report = check(ScriptedEngine(prefer=knows_good), pairs())
    assert report.overall.accuracy.value == 1.0
    assert report.overall.chose_first.value == 0.5
    assert report.overall.swap_consistent.value == 1.0
    assert [entry.stage for entry in report.stages] == ["CAPTION", "CONCLUSION"]


def test_judge_that_takes_the_first_shows_as_order_bias() -> None:
    report = check(ScriptedEngine(prefer=lambda first, second: 0.0, order_bias=3.0), pairs())
    assert report.overall.chose_first.value == 1.0
    assert report.overall.swap_consistent.value == 0.0
    assert report.overall.accuracy_one_order.value == 0.5
    assert report.overall.undecided == 4


def test_judge_that_loves_length_shows_as_length_bias() -> None:
    engine = ScriptedEngine(prefer=lambda first, second: float(len(first) - len(second)))
    report = check(engine, pairs(better="good", worse="bad but very long"))
    assert report.overall.chose_longer.value == 1.0
    assert report.overall.better_is_longer.value == 0.0
    assert report.overall.accuracy.value == 0.0


def test_written_verdicts_are_read_and_unreadable_ones_counted() -> None:
    engine = ScriptedEngine(write=lambda request, seed: "Since it is so, I choose response 1.")
    report = check(engine, pairs(), JudgeMode.TEXT)
    assert (report.overall.chose_first.value, report.overall.undecided, report.overall.unreadable) == (1.0, 4, 0)
    mute = check(ScriptedEngine(write=lambda request, seed: "I cannot say."), pairs(), JudgeMode.TEXT)
    assert (mute.overall.unreadable, mute.overall.accuracy.value) == (8, 0.0)


def test_no_pairs_is_an_error() -> None:
    with pytest.raises(ConfigError, match="at least one pair"):
        check(ScriptedEngine(), [])
