"""Deadlines, budgets, agreement: a search that is cut short answers with the best it has."""

from __future__ import annotations

import asyncio

import pytest
from search_cases import QUESTION, answer, larger_number, search

from reasoning.errors import ConfigError
from reasoning.protocols import ContinuationReply, ContinuationRequest
from reasoning.search import run_search
from reasoning.search.config import SearchConfig, SelectorKind, Strategy
from reasoning.search.result import Ending
from reasoning.stages import STAGES, render_stage
from reasoning.testing import ScriptedEngine, reciting


def numbered(request: ContinuationRequest, index: int) -> str:
    if request.stage is None:
        return answer(index)
    return render_stage(request.stage, f"{index}")


def test_a_spent_budget_finishes_the_best_path_alone() -> None:
    engine = ScriptedEngine(numbered, prefer=larger_number)
    result = search(engine, samples=4, token_budget=20)
    assert result.ended_by is Ending.BUDGET
    assert result.trace.chosen == ("S1.4", "S2.1", "S3.1", "S4.1")
    assert [len(r.seeds) for r in engine.written] == [4, 1, 1, 1]
    assert [r.sampling.temperature for r in engine.written] == [0.6, 0.0, 0.0, 0.0]
    assert (result.fault, result.score) == (None, None)


def test_a_passed_deadline_does_the_same() -> None:
    # A stage takes two seconds: one batch is written, one is judged.
    engine = ScriptedEngine(numbered, prefer=larger_number)
    result = search(engine, samples=2, deadline_s=2.5)
    assert result.ended_by is Ending.DEADLINE
    assert [len(r.seeds) for r in engine.written] == [2, 2, 1, 1]
    assert result.trace.chosen[:2] == ("S1.2", "S2.2")


def test_limits_that_are_not_reached_change_nothing() -> None:
    plain = search(ScriptedEngine(numbered, prefer=larger_number), samples=2)
    limited = search(ScriptedEngine(numbered, prefer=larger_number), samples=2, token_budget=10**6, deadline_s=1e6)
    assert limited.trace == plain.trace
    assert limited.ended_by is Ending.DONE


def test_beyond_its_budget_best_of_n_votes_instead_of_judging() -> None:
    engine = ScriptedEngine(reciting(answer(9), answer(2, "4"), answer(3, "4")), prefer=larger_number)
    result = search(engine, strategy=Strategy.BEST_OF_N, samples=3, token_budget=1)
    assert (result.conclusion, result.ended_by) == ("4", Ending.BUDGET)
    assert engine.chosen == []


@pytest.mark.parametrize(("conclusions", "drawn"), [((4, 4, 5, 5), 2), ((4, 5, 5, 5), 4)])
def test_first_answers_that_agree_are_enough(conclusions: tuple[int, ...], drawn: int) -> None:
    answers = [answer(number, f"{said}") for number, said in enumerate(conclusions)]

    def write(request: ContinuationRequest, index: int) -> str:
        return answers[sum(len(r.seeds) for r in engine.written[:-1]) + index]

    engine = ScriptedEngine(write)
    result = search(engine, strategy=Strategy.SELF_CONSISTENCY, samples=4, stop_on_agreement=True)
    assert len(result.trace.candidates) == drawn
    assert result.ended_by is (Ending.AGREEMENT if drawn == 2 else Ending.DONE)
    assert result.conclusion == ("4" if drawn == 2 else "5")
    assert len({c.seed for c in result.trace.candidates}) == drawn


def test_the_second_wave_draws_what_it_would_have_drawn_anyway() -> None:
    def seeds(*, stop_on_agreement: bool) -> list[int]:
        engine = ScriptedEngine(reciting(answer(1), answer(2)))
        found = search(engine, strategy=Strategy.SELF_CONSISTENCY, samples=4, stop_on_agreement=stop_on_agreement).trace
        return [candidate.seed for candidate in found.candidates]

    assert seeds(stop_on_agreement=True) == seeds(stop_on_agreement=False)


def test_a_cancelled_search_cancels_what_runs_below() -> None:
    cancelled = []

    class Hanging(ScriptedEngine):
        async def generate(self, requests: object) -> list[ContinuationReply]:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            return []

    async def run() -> None:
        engine = Hanging()
        task = asyncio.create_task(
            run_search(QUESTION, SearchConfig(), generator=engine, judge=engine, clock=lambda: 0.0)
        )
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert cancelled == [True]


def test_sizes_by_stage_are_drawn_and_kept() -> None:
    engine = ScriptedEngine(numbered, prefer=larger_number)
    result = search(engine, samples_by_stage=(1, 4, 4, 2), width_by_stage=(1, 3, 2, 1))
    by_stage = [[c for c in result.trace.candidates if c.stage is stage] for stage in STAGES]
    assert [len(found) for found in by_stage] == [1, 4, 4, 2]
    assert [sum(c.is_kept for c in found) for found in by_stage] == [1, 3, 2, 1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"samples_by_stage": (1, 2, 3)}, "samples_by_stage must have a number"),
        ({"samples_by_stage": (1, 2, 2, 0)}, "samples_by_stage must have a number"),
        ({"width_by_stage": (1, 9, 1, 1)}, "keeps 9 of 4 at stage 2"),
        ({"strategy": Strategy.SUBTREES, "samples": 4, "subtrees": 3}, "4 samples cannot be shared out evenly"),
        ({"deadline_s": 0.0}, "deadline_s must be above 0"),
        ({"token_budget": 0}, "token_budget must be at least 1"),
        ({"strategy": Strategy.SUBTREES, "selector": SelectorKind.WEIGHTED_VOTE}, "'weighted_vote' counts whole"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SearchConfig(**settings)  # type: ignore[arg-type]
