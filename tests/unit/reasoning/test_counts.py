"""Counters and times: what a trace tells of its verdicts and of its waits."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

from search_cases import larger_number, search

from reasoning.counts import VerdictCounts, count_verdicts
from reasoning.protocols import ContinuationRequest
from reasoning.search.config import ScorerKind, SelectorKind, Strategy
from reasoning.stages import STAGES, Stage, render_stage
from reasoning.testing import ScriptedEngine
from reasoning.trace import StepKind, Trace

FIRST, SECOND = "Since so, I choose response 1.", "Since so, I choose response 2."


def numbered(request: ContinuationRequest, index: int) -> str:
    assert request.stage is not None
    return render_stage(request.stage, f"{index}")


def judged(**replies: tuple[str, str]) -> Trace:
    """A search whose judge writes these two replies, as asked and swapped, at the stages named."""
    asked: dict[Stage, int] = {}

    def write(request: ContinuationRequest, index: int) -> str:
        if "Compare two responses" not in request.prompt:
            return numbered(request, index)
        assert request.stage is not None
        asked[request.stage] = asked.get(request.stage, 0) + 1
        return replies[request.stage.lower()][asked[request.stage] - 1]

    return search(ScriptedEngine(write), samples=2, selector=SelectorKind.JUDGE_TEXT).trace


def test_each_kind_of_verdict_is_counted_as_what_it_is() -> None:
    trace = judged(summary=(FIRST, FIRST), caption=(FIRST, SECOND), reasoning=("hm", SECOND), conclusion=("hm", "well"))
    assert count_verdicts(trace) == VerdictCounts(comparisons=4, unreadable=2, swapped=1, tied=1, fallbacks=1)


def test_counts_of_many_answers_add_up() -> None:
    one = VerdictCounts(comparisons=3, swapped=1, tied=1)
    assert (one + one).as_dict() == {"comparisons": 6, "unreadable": 0, "swapped": 2, "tied": 2, "fallbacks": 0}


def test_steps_tell_what_was_waited_for_and_their_tokens_are_the_ledgers() -> None:
    result = search(ScriptedEngine(numbered, prefer=larger_number), samples=4)
    steps = result.trace.steps
    assert [(step.kind, step.stage) for step in steps] == [
        (kind, stage) for stage in STAGES for kind in (StepKind.WRITE, StepKind.SELECT)
    ]
    # Each batch takes a second: one is written, two are judged.
    assert [step.ended_s - step.started_s for step in steps] == [1.0, 2.0] * 4
    assert all(before.ended_s <= after.started_s for before, after in pairwise(steps))
    assert sum(step.tokens for step in steps) == result.ledger.computed_tokens
    assert steps[-1].ended_s <= result.ledger.seconds


def test_a_selection_without_a_call_is_no_step() -> None:
    result = search(ScriptedEngine(numbered), samples=4, selector=SelectorKind.LIKELIHOOD)
    assert {step.kind for step in result.trace.steps} == {StepKind.WRITE}


def test_every_strategy_accounts_for_its_tokens_in_steps() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        if request.stage is not None:
            return numbered(request, index)
        return "\n\n".join(render_stage(stage, f"{index}") for stage in STAGES)[len(request.prefix) :]

    for strategy in Strategy:
        result = search(ScriptedEngine(write, prefer=lambda *_: 1.0, rate=lambda _: 1.0), strategy=strategy, samples=2)
        assert sum(step.tokens for step in result.trace.steps) == result.ledger.computed_tokens, strategy


def test_a_trace_with_steps_comes_back_and_an_older_one_reads_too() -> None:
    trace = search(ScriptedEngine(numbered, prefer=larger_number), samples=2).trace
    back = Trace.from_json(trace.to_json())
    assert (back, back.steps) == (trace, trace.steps)
    older = json.loads(trace.to_json())
    del older["steps"]
    for met in older["comparisons"]:
        del met["unread"]
    assert Trace.from_json(json.dumps(older)) == replace(trace, steps=())


def test_comparisons_that_make_up_a_score_are_in_the_trace_too() -> None:
    for strategy in (Strategy.STAGE_BEAM, Strategy.SWIRES):
        engine = ScriptedEngine(numbered, prefer=lambda *_: 0.5, order_bias=1.0)
        found = search(engine, strategy=strategy, samples=3, selector=SelectorKind.SCORE, scorer=ScorerKind.ROUND_ROBIN)
        captions = [met for met in found.trace.comparisons if met.stage is Stage.CAPTION]
        drawn = len({c.text for c in found.trace.candidates if c.stage is Stage.CAPTION})
        assert len(captions) % (drawn * (drawn - 1) // 2) == 0
        counts = count_verdicts(found.trace)
        # The judge leans to the first place further than its taste goes: each pair is a split.
        assert counts.comparisons == counts.swapped == counts.tied == len(found.trace.comparisons) > 0


def test_scores_of_which_no_verdict_could_be_read_fall_back() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        return numbered(request, index)

    found = search(
        ScriptedEngine(write, prefer=lambda *_: math.nan),
        samples=3,
        selector=SelectorKind.SCORE,
        scorer=ScorerKind.ROUND_ROBIN,
    )
    counts = count_verdicts(found.trace)
    assert (counts.comparisons, counts.unreadable, counts.fallbacks) == (12, 12, 4)
    assert found.fault is None
