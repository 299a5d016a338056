"""Who is kept, how many comparisons it takes, and that ties keep writing order."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_cases import QUESTION, larger_number

from reasoning.drafts import Draft
from reasoning.errors import ConfigError
from reasoning.judges import JudgeMode, PairwiseJudge
from reasoning.knockout import Knockout
from reasoning.protocols import ContinuationRequest
from reasoning.search.config import SearchConfig, SelectorKind
from reasoning.search.parts import build_selector
from reasoning.selectors import Likeliest, MostVotes, Selection, Selector
from reasoning.stages import Stage
from reasoning.testing import ScriptedEngine
from reasoning.trace import Verdict


def drafts(*marks: object) -> list[Draft]:
    return [Draft(id=f"S2.{n}", text=f"cubes {mark}") for n, mark in enumerate(marks, start=1)]


def select(
    selector: Selector, pool: list[Draft], keep: int = 1, seed: int = 0, stage: Stage | None = Stage.CAPTION
) -> Selection:
    return asyncio.run(selector.select(QUESTION, stage, pool, keep, seed))


def knockout(engine: ScriptedEngine, mode: JudgeMode = JudgeMode.LOGPROB, *, check: bool = False) -> Knockout:
    return Knockout(PairwiseJudge(engine, mode=mode), check_reasoning=check)


@given(st.permutations(range(9)), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**53))
def test_knockout_takes_one_comparison_for_each_that_leaves(order: list[int], n: int, keep: int, seed: int) -> None:
    engine = ScriptedEngine(prefer=larger_number)
    pool = drafts(*order[:n])
    selection = select(knockout(engine), pool, keep, seed)
    assert len(selection.comparisons) == max(0, n - keep)
    assert len(selection.kept) == min(n, keep)
    best = max(pool, key=lambda draft: int(draft.text.split()[-1]))
    assert best.id in selection.kept
    left = {c.second if c.verdict is Verdict.FIRST else c.first for c in selection.comparisons}
    assert left | set(selection.kept) == {draft.id for draft in pool}


@given(st.integers(2, 33), st.integers(0, 99))
def test_knockout_to_one_takes_log2_rounds(n: int, seed: int) -> None:
    engine = ScriptedEngine(prefer=larger_number)
    selection = select(knockout(engine), drafts(*range(n)), 1, seed)
    assert selection.ledger.serial_steps == len(engine.batches) == math.ceil(math.log2(n))
    assert selection.kept == (f"S2.{n}",)


def test_pairs_are_drawn_from_the_seed() -> None:
    def met(seed: int) -> list[tuple[str, str]]:
        selection = select(knockout(ScriptedEngine(prefer=larger_number)), drafts(*range(8)), 1, seed)
        return [(c.first, c.second) for c in selection.comparisons]

    assert met(1) == met(1)
    assert len({tuple(met(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("mode", JudgeMode)
def test_tie_keeps_writing_order(mode: JudgeMode, seed: int) -> None:
    engine = ScriptedEngine(lambda *_: "I choose response 1.", prefer=lambda a, b: 0.0)
    selection = select(knockout(engine, mode), drafts("a", "b", "c", "d"), 1, seed)
    assert selection.kept == ("S2.1",)
    assert {comparison.verdict for comparison in selection.comparisons} == {Verdict.TIE}


@pytest.mark.parametrize("seed", range(4))
def test_an_unreadable_verdict_is_no_vote(seed: int) -> None:
    engine = ScriptedEngine(lambda *_: "Both describe the picture well.")
    selection = select(knockout(engine, JudgeMode.TEXT), drafts("a", "b", "c"), 1, seed)
    assert selection.kept == ("S2.1",)
    assert {comparison.verdict for comparison in selection.comparisons} == {Verdict.UNREADABLE}
    assert set(selection.scores.values()) == {0.0}


@pytest.mark.parametrize("seed", range(4))
def test_a_split_verdict_goes_to_the_more_probable(seed: int) -> None:
    engine = ScriptedEngine(prefer=larger_number, order_bias=5.0)
    selection = select(knockout(engine), drafts(1, 2), 1, seed)
    assert selection.comparisons[0].verdict is Verdict.TIE
    assert selection.kept == ("S2.2",)


def test_drafts_that_say_the_same_are_not_compared() -> None:
    engine = ScriptedEngine(prefer=larger_number)
    selection = select(knockout(engine), drafts(3, 3, 3), 2)
    assert (selection.kept, selection.comparisons, engine.batches) == (("S2.1",), (), [])


def test_scores_are_mean_probabilities_of_winning() -> None:
    selection = select(knockout(ScriptedEngine(prefer=larger_number)), drafts(1, 2), 1)
    assert selection.scores["S2.2"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert sum(selection.scores.values()) == pytest.approx(1)


def test_a_reasoning_that_fails_its_check_loses_without_a_comparison() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        assert "Check whether" in request.prompt
        return "correct" if "cubes 2" in request.prompt else "incorrect"

    engine = ScriptedEngine(write)
    selection = select(knockout(engine, JudgeMode.TEXT, check=True), drafts(1, 2), 1, stage=Stage.REASONING)
    assert selection.kept == ("S2.2",)
    assert len(selection.comparisons) == 1
    assert selection.ledger.serial_steps == len(engine.batches) == 1


def test_likeliest_is_kept_and_ties_keep_writing_order() -> None:
    pool = [Draft(id=name, text=name, mean_logprob=p) for name, p in [("a", -2.0), ("b", -1.0), ("c", -1.0)]]
    selection = select(Likeliest(), pool, 2)
    assert selection.kept == ("b", "c")
    assert selection.scores["a"] == -2.0


def test_drafts_without_likelihood_rank_last_and_the_selection_says_so() -> None:
    likelihoods = (math.nan, -0.2, math.nan, -0.1)
    pool = [Draft(id=str(n), text=str(n), mean_logprob=value) for n, value in enumerate(likelihoods)]
    selection = select(Likeliest(), pool, keep=3)
    assert selection.kept == ("3", "1", "0")
    assert set(selection.scores) == {"1", "3"}
    assert "2 of 4 have no likelihood" in selection.notes[0]
    assert select(Likeliest(), pool[:1]).notes == ()


def test_most_votes_win_by_their_likeliest() -> None:
    pool = [
        Draft(id=name, text=name, key=key, mean_logprob=p)
        for name, key, p in [("a", "3", -0.1), ("b", "4", -2.0), ("c", "4", -1.0)]
    ]
    selection = select(MostVotes(), pool)
    assert selection.kept == ("c",)
    assert selection.scores["c"] == pytest.approx(2 / 3)


def test_equal_votes_go_to_the_likelier() -> None:
    pool = [Draft(id=name, text=name, key=name, mean_logprob=p) for name, p in [("a", -2.0), ("b", -1.0)]]
    assert select(MostVotes(), pool).kept == ("b",)


@pytest.mark.parametrize("kind", [SelectorKind.JUDGE_LOGPROB, SelectorKind.JUDGE_TEXT])
def test_a_judging_selector_needs_a_judge(kind: SelectorKind) -> None:
    with pytest.raises(ConfigError, match="needs a judge"):
        build_selector(SearchConfig(selector=kind), None)
    assert build_selector(SearchConfig(selector=kind, samples=1), None)
