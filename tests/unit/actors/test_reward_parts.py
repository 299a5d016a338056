"""Settings, texts, joins and the batching thread of reward models."""

from __future__ import annotations

import asyncio
import math
import pickle
import threading
from collections.abc import Sequence

import pytest

from actors.rewards.batching import BatchThread
from actors.rewards.config import HttpForm, RewardConfig, RewardKind, StepJoin
from actors.rewards.joining import joined, log_odds_of, log_odds_of_probability
from actors.rewards.texts import reward_text, spell_apart
from reasoning.errors import ConfigError, EngineError
from reasoning.protocols import RewardRequest
from reasoning.records import Question
from reasoning.stages import Stage


def test_settings_that_contradict_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"RewardConfig\.url .* got None"):
        RewardConfig(kind=RewardKind.HTTP)
    with pytest.raises(ConfigError, match=r"RewardConfig\.model is missing"):
        RewardConfig(kind=RewardKind.SEQUENCE_CLASSIFICATION)
    with pytest.raises(ConfigError, match="loads `model` itself"):
        RewardConfig(kind=RewardKind.TOKEN_CLASSIFICATION, model="m", url="http://x")
    with pytest.raises(ConfigError, match="takes texts only"):
        RewardConfig(kind=RewardKind.HTTP, url="http://x", form=HttpForm.CLASSIFY, with_image=True)
    with pytest.raises(ConfigError, match="label's number"):
        RewardConfig(kind=RewardKind.HTTP, url="http://x", form=HttpForm.CLASSIFY, label="right")
    config = RewardConfig(kind=RewardKind.HTTP, url="http://x")
    assert pickle.loads(pickle.dumps(config)) == config


def test_stages_are_steps_and_blank_lines_part_them() -> None:
    request = RewardRequest(
        question=Question(id="q", question="How many?"),
        stage=Stage.REASONING,
        prior={Stage.CAPTION: "Two cubes.", Stage.SUMMARY: "Count."},
        text="One.\n\nTwo.",
    )
    text = reward_text(request)
    assert text.prior == ("<SUMMARY> Count. </SUMMARY>", "<CAPTION> Two cubes. </CAPTION>")
    assert text.steps == ("<REASONING> One.", "Two. </REASONING>")
    assert text.answer.endswith("</CAPTION>\n\n<REASONING> One.\n\nTwo. </REASONING>")
    empty = reward_text(RewardRequest(question=request.question, stage=None, prior={}, text=" \n\n "))
    assert empty.steps == ("",)


def test_control_tokens_are_spelled_apart_longest_first() -> None:
    text = reward_text(
        RewardRequest(question=Question(id="q", question="<|a|>?"), stage=None, prior={}, text="x <|a|>b <|a|>")
    )
    safe = spell_apart(text, ("<|a|>", "<|a|>b", "x"))
    assert (safe.question, safe.steps) == ("< |a|>?", ("x < |a|>b < |a|>",))
    assert spell_apart(text, ()) is text


def test_joins() -> None:
    logits = [log_odds_of_probability(p) for p in (0.9, 0.2, 0.5)]
    said = {join: 1 / (1 + math.exp(-joined(logits, join))) for join in StepJoin}
    assert said == pytest.approx(
        {StepJoin.LAST: 0.5, StepJoin.MIN: 0.2, StepJoin.MEAN: 1.6 / 3, StepJoin.PRODUCT: 0.09}
    )
    assert math.isnan(joined([], StepJoin.LAST))
    assert all(math.isnan(joined([0.0, math.nan], join)) for join in StepJoin)
    assert all(math.isfinite(joined([-900.0, 900.0], join)) for join in StepJoin)


def test_log_odds() -> None:
    assert log_odds_of([-3.5], 0) == -3.5
    assert log_odds_of([1.0, 4.0], 1) == pytest.approx(3.0)
    probability = math.exp(2) / (math.exp(2) + math.exp(1) + 1)
    assert log_odds_of([2.0, 1.0, 0.0], 0) == pytest.approx(math.log(probability / (1 - probability)))
    assert log_odds_of_probability(1.0) == pytest.approx(-log_odds_of_probability(0.0), rel=1e-3)


class Gate:
    """Work that doubles numbers; the first batch waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.is_busy = threading.Event()
        self.go = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        self.is_busy.set()
        assert self.go.wait(timeout=30)
        return [ValueError("odd one") if item == 13 else 2 * item for item in items]


def test_what_comes_in_during_a_batch_goes_into_the_next_together() -> None:
    gate = Gate()
    thread = BatchThread(gate, batch_size=3)

    async def ask() -> list[list[int]]:
        first = asyncio.ensure_future(thread.results([1]))
        await asyncio.to_thread(gate.is_busy.wait)
        others = [asyncio.ensure_future(thread.results(items)) for items in ([2], [3, 4], [5])]
        await asyncio.sleep(0)
        gate.go.set()
        return list(await asyncio.gather(first, *others))

    assert asyncio.run(ask()) == [[2], [4], [6, 8], [10]]
    assert gate.batches == [[1], [2, 3, 4], [5]]
    thread.close()


def test_one_bad_item_costs_no_other_caller_and_the_cancelled_are_left_out() -> None:
    gate = Gate()
    thread = BatchThread(gate, batch_size=3)

    async def ask() -> list[object]:
        first = asyncio.ensure_future(thread.results([1]))
        await asyncio.to_thread(gate.is_busy.wait)
        gone, bad, good = (asyncio.ensure_future(thread.results([item])) for item in (7, 13, 4))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        gate.go.set()
        return list(await asyncio.gather(first, bad, good, return_exceptions=True))

    first, bad, good = asyncio.run(ask())
    assert (first, good, str(bad)) == ([2], [8], "odd one")
    assert gate.batches == [[1], [13, 4]]
    thread.close()


def test_a_closed_thread_says_so() -> None:
    gate = Gate()
    gate.go.set()
    thread = BatchThread(gate, batch_size=1)
    thread.close()
    thread.close()
    with pytest.raises(EngineError, match="closed"):
        asyncio.run(thread.results([1]))
