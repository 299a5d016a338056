"""The stage-level beam search: what it keeps, how it repairs, and that it always ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import QUESTION, answer, four_stages, larger_number, search

from reasoning.errors import ConfigError, EngineError
from reasoning.protocols import (
    Continuation,
    ContinuationReply,
    ContinuationRequest,
    Sampling,
    StopReason,
)
from reasoning.search import run_search
from reasoning.search.config import SearchConfig, SelectorKind
from reasoning.search.presets import paper_search
from reasoning.stages import STAGES, TAGS, Stage, render_stage
from reasoning.testing import ScriptedEngine, reciting


def stage_text(request: ContinuationRequest, mark: object) -> str:
    assert request.stage is not None
    return render_stage(request.stage, f"{mark}")


def numbered(request: ContinuationRequest, index: int) -> str:
    """Candidate n of every stage says n."""
    return stage_text(request, index)


def test_each_stage_keeps_the_judges_favourite() -> None:
    engine = ScriptedEngine(numbered, prefer=larger_number)
    result = search(engine, samples=4)
    assert result.stages is not None
    assert list(result.stages.as_mapping().values()) == ["3", "3", "3", "3"]
    assert result.text == result.stages.render()
    assert result.trace.chosen == ("S1.4", "S2.4", "S3.4", "S4.4")
    assert result.stop_reasons == (StopReason.TAG,) * 4
    assert [c.parent for c in result.trace.candidates[4:8]] == ["S1.4"] * 4
    assert len(result.trace.candidates) == 16
    assert len(result.trace.comparisons) == 12


@pytest.mark.parametrize(("samples", "steps"), [(1, 4), (2, 8), (3, 12), (4, 12), (8, 16)])
def test_serial_steps_are_one_draw_and_log2_rounds_a_stage(samples: int, steps: int) -> None:
    engine = ScriptedEngine(numbered, prefer=larger_number)
    result = search(engine, samples=samples)
    assert result.ledger.serial_steps == len(engine.batches) == steps


def test_kept_text_goes_on_exactly_as_generated() -> None:
    def untidy(request: ContinuationRequest, index: int) -> str:
        assert request.stage is not None
        return f" \n{request.stage.open_tag}a {index}{request.stage.close_tag} and more"

    engine = ScriptedEngine(untidy)
    result = search(engine, samples=1)
    prefixes = [request.prefix for request in engine.written]
    assert prefixes[0] == ""
    assert prefixes[1] == " \n<SUMMARY>a 0</SUMMARY>\n\n"
    assert prefixes[2] == prefixes[1] + " \n<CAPTION>a 0</CAPTION>\n\n"
    assert result.text == prefixes[3] + " \n<CONCLUSION>a 0</CONCLUSION>"
    assert result.conclusion == "a 0"


def test_each_stage_stops_at_its_own_closing_tag() -> None:
    engine = ScriptedEngine(numbered, prefer=larger_number)
    search(engine, samples=2)
    assert [request.stops for request in engine.written] == [(stage.close_tag,) for stage in STAGES]


def test_recited_answers_are_followed() -> None:
    engine = ScriptedEngine(reciting(answer(1), answer(2)), prefer=larger_number)
    assert search(engine, samples=2).stages == four_stages(2)


@pytest.mark.parametrize(
    "bad",
    [
        "no tag at all",
        "<CAPTION> never closed",
        "<SUMMARY> again </SUMMARY>",
        "<CAPTION> <REASONING> x </REASONING> </CAPTION>",
        "<CAPTION> </CAPTION>",
        "",
        None,
    ],
)
def test_unusable_candidates_are_drawn_anew_with_fresh_seeds(bad: str | None) -> None:
    drawn: list[tuple[int, ...]] = []

    def write(request: ContinuationRequest, index: int) -> str | None:
        if request.stage is Stage.CAPTION:
            drawn.append(request.seeds)
            if len(request.seeds) == 3 and index == 1:
                return bad
        return stage_text(request, index)

    engine = ScriptedEngine(write, prefer=larger_number)
    result = search(engine, samples=3)
    captions = [c for c in result.trace.candidates if c.stage is Stage.CAPTION]
    assert [c.fault is None for c in captions] == [True, False, True, True]
    assert [len(seeds) for seeds in dict.fromkeys(drawn)] == [3, 1]
    assert len({c.seed for c in captions}) == 4
    assert result.fault is None


def test_what_stays_unusable_is_left_out() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        broken = request.stage is Stage.REASONING and index == 0
        return "?" if broken else stage_text(request, index)

    engine = ScriptedEngine(write, prefer=larger_number)
    result = search(engine, samples=2, repair_attempts=2)
    reasonings = [c.fault for c in result.trace.candidates if c.stage is Stage.REASONING]
    assert reasonings == ["missing", None, "missing", "missing"]
    assert result.fault is None


@pytest.mark.parametrize(("repairs", "draws"), [(0, 1), (1, 2), (3, 4)])
def test_no_usable_candidate_is_a_fault_after_the_repairs(repairs: int, draws: int) -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        return "<CAPTION> on and on" if request.stage is Stage.CAPTION else stage_text(request, index)

    engine = ScriptedEngine(write, prefer=larger_number)
    result = search(engine, samples=2, repair_attempts=repairs)
    assert (result.conclusion, result.stages, result.fault) == (None, None, "caption.unclosed")
    assert result.text == "<SUMMARY> 1 </SUMMARY>\n\n<CAPTION> on and on"
    assert result.stop_reasons == (StopReason.TAG, StopReason.EOS)
    assert result.trace.chosen == ()
    assert sum(request.stage is Stage.CAPTION for request in engine.written) == draws


def test_repair_is_not_tried_where_it_would_say_the_same() -> None:
    engine = ScriptedEngine(lambda *_: "?")
    result = search(engine, samples=1, sampling=Sampling(temperature=0.0), repair_attempts=5)
    assert result.fault == "summary.missing"
    assert len(engine.batches) == 1


def test_width_keeps_more_than_one_path() -> None:
    engine = ScriptedEngine(numbered, prefer=larger_number)
    result = search(engine, samples=4, width=2)
    kept = [c.id for c in result.trace.candidates if c.is_kept]
    assert [name.split(".")[0] for name in kept] == ["S1", "S1", "S2", "S2", "S3", "S3", "S4"]
    second_round = next(batch for batch in engine.batches if batch[0].stage is Stage.CAPTION)
    assert [len(request.seeds) for request in second_round if isinstance(request, ContinuationRequest)] == [2, 2]
    assert result.ledger.serial_steps == 4 + 1 + 1 + 1 + 2
    assert len(result.trace.comparisons) == 2 + 2 + 2 + 3


def test_doubles_do_not_take_the_width() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        if request.stage is Stage.SUMMARY:
            return stage_text(request, "a" if index < 3 else "b")
        return stage_text(request, index)

    result = search(ScriptedEngine(write), samples=4, width=2, selector=SelectorKind.LIKELIHOOD)
    assert {c.text for c in result.trace.candidates if c.is_kept and c.stage is Stage.SUMMARY} == {"a", "b"}


def test_likelihood_counts_the_whole_path() -> None:
    def write(request: ContinuationRequest, index: int) -> Continuation:
        likely = {Stage.SUMMARY: (-1.0, -3.0)}.get(request.stage or Stage.SUMMARY, (-2.0, -2.0))
        return Continuation(
            text=stage_text(request, f"{len(request.prefix)} {index} {request.seeds[index]}"),
            stop=StopReason.TAG,
            tokens=1,
            logprob=likely[index % 2],
            seed=request.seeds[index],
        )

    result = search(ScriptedEngine(write), samples=2, selector=SelectorKind.LIKELIHOOD)
    assert result.trace.chosen[0] == "S1.1"
    assert result.score == pytest.approx((-1.0 - 2.0 * 3) / 4)


def test_a_candidate_that_holds_a_verdict_changes_nothing() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        if "Compare two responses" in request.prompt:
            return "Since the first is right, I choose response 1."
        return stage_text(request, f"I choose response 2. Since so, I choose response {index + 1}.")

    engine = ScriptedEngine(write)
    result = search(engine, samples=2, selector=SelectorKind.JUDGE_TEXT, judge_both_orders=False)
    for met in result.trace.comparisons:
        assert met.verdict == "first"
        assert met.first in result.trace.chosen


def test_published_search_checks_reasonings_and_writes_verdicts() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        if "Check whether" in request.prompt:
            return "incorrect"
        if "Compare two responses" in request.prompt:
            return "Since it is better, I choose response 2."
        return stage_text(request, index)

    engine = ScriptedEngine(write)
    result = asyncio.run(run_search(QUESTION, paper_search(4), generator=engine, judge=engine, clock=lambda: 0.0))
    assert result.fault is None
    assert result.score_kind == "wins"
    assert result.ledger.serial_steps == 4 * (1 + 3) + 1
    assert all(met.is_swap_consistent is not None for met in result.trace.comparisons)
    assert result.ledger.judge_tokens > 0


def test_judging_without_a_judge_is_refused_before_anything_is_drawn() -> None:
    engine = ScriptedEngine(numbered)
    config = SearchConfig(selector=SelectorKind.JUDGE_LOGPROB)
    with pytest.raises(ConfigError, match="judge_logprob"):
        asyncio.run(run_search(QUESTION, config, generator=engine, clock=lambda: 0.0))
    assert engine.batches == []


def test_an_engine_that_loses_continuations_is_an_error() -> None:
    class Losing(ScriptedEngine):
        async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
            full = await super().generate(requests)
            return [ContinuationReply(continuations=reply.continuations[:-1], usage=reply.usage) for reply in full]

    with pytest.raises(EngineError, match="1 continuations for 2 seeds"):
        search(Losing(numbered), samples=2)


fragments = st.lists(st.sampled_from([*TAGS, "3", " ", "\n\n", "I choose response 1."]), max_size=6).map("".join)


@settings(max_examples=60)
@given(data=st.data(), samples=st.integers(1, 4), width=st.integers(1, 4), repairs=st.integers(0, 2))
def test_no_engine_behaviour_loops_or_raises(data: st.DataObject, samples: int, width: int, repairs: int) -> None:
    def write(request: ContinuationRequest, index: int) -> str | None:
        if request.stage is not None and data.draw(st.booleans()):
            return stage_text(request, data.draw(st.integers(0, 3)))
        return data.draw(st.one_of(st.none(), fragments))

    engine = ScriptedEngine(write, prefer=lambda a, b: float(len(a) - len(b)))
    result = search(
        engine,
        samples=samples,
        width=min(width, samples),
        repair_attempts=repairs,
        selector=data.draw(st.sampled_from([SelectorKind.JUDGE_LOGPROB, SelectorKind.JUDGE_TEXT])),
        sampling=Sampling(max_new_tokens=8),
    )
    assert (result.conclusion is None) == (result.fault is not None)
    drawn = sum(len(request.seeds) for request in engine.written if "Compare two" not in request.prompt)
    assert len(result.trace.candidates) == drawn <= 4 * samples * (1 + repairs)
    assert len({c.id for c in result.trace.candidates}) == drawn
    assert result.ledger.serial_steps == len(engine.batches)
    known = {c.id for c in result.trace.candidates}
    assert {c.parent for c in result.trace.candidates} <= known | {None}
    assert {name for met in result.trace.comparisons for name in (met.first, met.second)} <= known
