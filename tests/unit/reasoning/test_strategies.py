"""Subtrees, retracing, scores, weighted votes; and that no pair of strategy and selector loses or loops."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import answer, larger_number, search

from reasoning.errors import ConfigError, EngineError
from reasoning.protocols import ChoiceReply, Continuation, ContinuationRequest, Sampling, StopReason
from reasoning.search.config import Retrace, ScorerKind, SearchConfig, SelectorKind, Strategy
from reasoning.search.parts import build_scorer, build_selector
from reasoning.stages import STAGES, TAGS, Stage, render_stage
from reasoning.testing import ScriptedEngine, reciting

WHOLE = (Strategy.SELF_CONSISTENCY, Strategy.BEST_OF_N)
STAGED = (Strategy.STAGE_BEAM, Strategy.SUBTREES, Strategy.SENTENCE_BEAM)
VOTES = (SelectorKind.VOTE, SelectorKind.WEIGHTED_VOTE)


def last_number(text: str) -> float:
    return float([word for word in text.replace("<", " ").split() if word.isdigit()][-1])


def numbered(request: ContinuationRequest, index: int) -> str:
    if request.stage is None:
        return answer(index)
    return render_stage(request.stage, f"{index}")


def test_subtrees_go_on_by_themselves_and_meet_at_the_end() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        """The second tree's texts are larger, but the first tree's conclusion is the largest."""
        assert request.stage is not None
        if request.stage is STAGES[0]:
            return render_stage(request.stage, f"{10 * (index // 2) + index}")
        is_first = "<SUMMARY> 1 " in request.prefix
        value = {True: 50, False: 5}[is_first] if request.stage is Stage.CONCLUSION else 0
        return render_stage(request.stage, f"{value + index}")

    engine = ScriptedEngine(write, rate=lambda text: last_number(text) / 10)
    settings = {"selector": SelectorKind.SCORE, "scorer": ScorerKind.RATING}
    result = search(engine, strategy=Strategy.SUBTREES, samples=4, subtrees=2, **settings)
    assert result.conclusion == "51"
    assert result.trace.chosen[0] == "S1.2"
    kept = [c.id for c in result.trace.candidates if c.is_kept]
    assert [name.split(".")[0] for name in kept] == ["S1", "S1", "S2", "S2", "S3", "S3", "S4", "S4"]
    draws = [batch for batch in engine.batches if isinstance(batch[0], ContinuationRequest)]
    assert [[len(request.seeds) for request in batch] for batch in draws] == [[4], [2, 2], [2, 2], [2, 2]]
    # A draw and a selection for each stage, the trees' selections at the same time, and the last one.
    assert result.ledger.serial_steps == 4 * 2 + 1


def test_a_subtree_without_a_usable_candidate_is_given_up() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        assert request.stage is not None
        if request.stage is STAGES[0]:
            return render_stage(request.stage, f"{index}")
        return "?" if "<SUMMARY> 1 " in request.prefix else render_stage(request.stage, "3")

    result = search(ScriptedEngine(write, prefer=larger_number), strategy=Strategy.SUBTREES, samples=2, subtrees=2)
    assert (result.fault, result.trace.chosen[0]) == (None, "S1.1")


def test_retracing_goes_back_to_the_caption_until_two_reasonings_are_good() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        """Captions and reasonings of the second round are good."""
        assert request.stage is not None
        earlier = [r for r in engine.written[:-1] if r.stage is request.stage]
        is_second = request.stage in (Stage.CAPTION, Stage.REASONING) and bool(earlier)
        if request.stage is Stage.REASONING:
            is_second = "<CAPTION> 7" in request.prefix
        return render_stage(request.stage, f"{70 + index if is_second else index}")

    engine = ScriptedEngine(write, rate=lambda text: last_number(text) - 50)
    result = search(engine, strategy=Strategy.SWIRES, retrace=Retrace(cutoff=0.5, rounds=5, finalists=2))
    stages = [c.stage for c in result.trace.candidates]
    assert stages.count(Stage.SUMMARY) == 1
    assert stages.count(Stage.CAPTION) == stages.count(Stage.REASONING) == 8
    assert stages.count(Stage.CONCLUSION) == 2
    assert result.stages is not None
    assert result.stages.caption.startswith("7")
    assert result.fault is None
    assert result.score_kind == "rating"
    assert result.ledger.serial_steps == len(engine.batches) == 1 + 2 * 4 + 2


def test_retracing_ends_after_its_rounds_with_the_best_it_has() -> None:
    engine = ScriptedEngine(numbered, rate=lambda text: last_number(text) - 50)
    result = search(engine, strategy=Strategy.SWIRES, retrace=Retrace(rounds=3, captions=2, kept=1))
    reasonings = [c for c in result.trace.candidates if c.stage is Stage.REASONING]
    assert len(reasonings) == 6
    assert result.stages is not None
    assert result.stages.reasoning == "1"


def test_retracing_by_a_reward_that_is_no_number_still_answers() -> None:
    engine = ScriptedEngine(numbered, rate=lambda _: math.nan)
    result = search(engine, strategy=Strategy.SWIRES, retrace=Retrace(rounds=2))
    assert (result.fault is None, result.score) == (True, None)


def test_a_weighted_vote_can_outvote_the_majority() -> None:
    engine = ScriptedEngine(
        reciting(answer(1, "4"), answer(2, "4"), answer(9, "5")), rate=lambda text: 3.0 if "plan 9" in text else -3.0
    )
    settings = {"strategy": Strategy.BEST_OF_N, "samples": 3}
    result = search(engine, selector=SelectorKind.WEIGHTED_VOTE, scorer=ScorerKind.RATING, **settings)
    assert (result.conclusion, result.score_kind) == ("5", "vote_share")
    assert search(engine, selector=SelectorKind.VOTE, **settings).conclusion == "4"


def test_answers_that_all_agree_are_not_scored() -> None:
    engine = ScriptedEngine(reciting(answer(1, "4"), answer(2, "four")), rate=lambda _: 0.0)
    result = search(engine, strategy=Strategy.BEST_OF_N, samples=2, selector=SelectorKind.WEIGHTED_VOTE)
    assert (result.score, engine.chosen) == (1.0, [])


def test_round_robin_asks_all_pairs_at_once() -> None:
    engine = ScriptedEngine(numbered, prefer=larger_number)
    result = search(engine, samples=4, selector=SelectorKind.SCORE, scorer=ScorerKind.ROUND_ROBIN)
    assert result.conclusion == "3"
    assert [len(batch) for batch in engine.batches] == [1, 2 * 6] * 4


@pytest.mark.parametrize("style", ["compact", "standard"])
def test_what_got_no_score_ranks_last_and_is_told(style: str) -> None:
    engine = ScriptedEngine(numbered, rate=lambda text: math.nan if text == "1" else 0.0)
    result = search(engine, samples=2, selector=SelectorKind.SCORE, prompt_style=style)
    assert result.conclusion == "0"
    assert result.trace.notes[0] == "summary: 1 of 2 got no score"


class WithoutJudge(ScriptedEngine):
    async def choose(self, requests: object) -> list[ChoiceReply]:
        raise EngineError("gone")


def test_a_lost_judge_is_replaced_by_a_vote_and_told() -> None:
    engine = WithoutJudge(reciting(answer(1, "4"), answer(2, "5"), answer(3, "5")))
    result = search(engine, strategy=Strategy.BEST_OF_N, samples=3)
    assert (result.conclusion, result.score) == ("5", None)
    assert result.trace.notes == ("answer: the judge was lost (gone); voted instead",)


def test_a_lost_judge_of_stages_is_replaced_by_likelihood_and_told() -> None:
    result = search(WithoutJudge(numbered), samples=2)
    assert result.fault is None
    assert [note.split(":")[0] for note in result.trace.notes] == ["summary", "caption", "reasoning", "conclusion"]
    with pytest.raises(EngineError, match="gone"):
        search(WithoutJudge(numbered), samples=2, judge_fallback=False)


def test_a_judge_that_says_nothing_readable_is_replaced_too() -> None:
    engine = ScriptedEngine(reciting(answer(1, "4"), answer(2, "5"), answer(3, "5")), prefer=lambda a, b: math.nan)
    result = search(engine, strategy=Strategy.BEST_OF_N, samples=3)
    assert result.conclusion == "5"
    assert "none of 2 verdicts could be read; voted instead" in result.trace.notes[0]
    assert result.ledger.judge_tokens > 0
    assert len(result.trace.comparisons) == 2


def test_parts_that_are_missing_are_named() -> None:
    config = SearchConfig(selector=SelectorKind.SCORE, scorer=ScorerKind.REWARD)
    with pytest.raises(ConfigError, match="'reward' needs a reward model"):
        build_selector(config, ScriptedEngine())
    with pytest.raises(ConfigError, match="'rating' needs a judge engine"):
        build_scorer(SearchConfig(strategy=Strategy.SWIRES), None)


fragments = st.lists(st.sampled_from([*TAGS, "3", " ", "\n\n", "I choose response 1."]), max_size=6).map("".join)
odds = st.sampled_from([0.0, 1.0, -2.0, math.nan, math.inf])


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    strategy=st.sampled_from([s for s in Strategy if s not in (Strategy.DIRECT, Strategy.GREEDY)]),
    scorer=st.sampled_from([s for s in ScorerKind if s is not ScorerKind.REWARD]),
    limit=st.sampled_from([{}, {"token_budget": 5}, {"deadline_s": 2.0}, {"stop_on_agreement": True}]),
)
def test_no_engine_behaviour_loops_loses_or_raises(
    data: st.DataObject, strategy: Strategy, scorer: ScorerKind, limit: dict[str, object]
) -> None:
    allowed = [kind for kind in SelectorKind if strategy not in STAGED or kind not in VOTES]

    def write(request: ContinuationRequest, index: int) -> str | Continuation | None:
        if data.draw(st.booleans()):
            return numbered(request, data.draw(st.integers(0, 3)))
        cut_short = Continuation(text="<SUMMARY> 3", stop=StopReason.LENGTH, tokens=2, logprob=math.nan, seed=0)
        return data.draw(st.one_of(st.none(), st.just(cut_short), fragments))

    engine = ScriptedEngine(write, prefer=lambda a, b: data.draw(odds), rate=lambda a: data.draw(odds))
    result = search(
        engine,
        strategy=strategy,
        samples=4,
        retrace=Retrace(rounds=2, captions=2, kept=1),
        max_sentences=4,
        selector=data.draw(st.sampled_from(allowed)),
        scorer=scorer,
        sampling=Sampling(max_new_tokens=8),
        **limit,
    )
    assert (result.conclusion is None) == (result.fault is not None)
    drawn = sum(len(r.seeds) for r in engine.written if "Compare two" not in r.prompt)
    candidates = {c.id: c for c in result.trace.candidates}
    assert len(candidates) == len(result.trace.candidates) == drawn
    assert result.ledger.serial_steps <= len(engine.batches)
    assert all(candidates[name].is_kept and not candidates[name].fault for name in result.trace.chosen)
    for name, parent in zip(result.trace.chosen[1:], result.trace.chosen, strict=False):
        assert candidates[name].parent == parent


@settings(max_examples=60, deadline=None)
@given(data=st.data(), strategy=st.sampled_from([Strategy.STAGE_BEAM, Strategy.BEST_OF_N, Strategy.SUBTREES]))
def test_nothing_that_was_scored_higher_is_left_behind(data: st.DataObject, strategy: Strategy) -> None:
    worth = data.draw(st.lists(st.integers(0, 9), min_size=16, max_size=16))

    def write(request: ContinuationRequest, index: int) -> str:
        value = worth[(index + len(request.prefix)) % 16]
        return answer(value) if request.stage is None else render_stage(request.stage, f"{value}")

    engine = ScriptedEngine(write, rate=last_number)
    result = search(engine, strategy=strategy, samples=4, selector=SelectorKind.SCORE)
    last = result.trace.candidates[-4:]
    same_parent = [c for c in last if c.parent == last[-1].parent] if strategy is Strategy.STAGE_BEAM else []
    assert result.conclusion is not None
    for candidate in same_parent:
        assert last_number(candidate.text) <= last_number(result.conclusion)
    if strategy is Strategy.BEST_OF_N:
        assert last_number(result.text) == max(last_number(c.text) for c in last)


def test_sentences_are_chosen_one_by_one() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        """Two sentences and an end; a number with a point ends none."""
        space = " " if request.prefix else ""
        if request.prefix.count("It is") < 2:
            return f"{space}It is 3.1{index}. And more"
        return f"{space}The end {index}"

    engine = ScriptedEngine(write, prefer=larger_number_in)
    result = search(engine, strategy=Strategy.SENTENCE_BEAM, samples=3)
    assert [request.prefix for request in engine.written] == ["", "It is 3.12.", "It is 3.12. It is 3.12."]
    assert result.fault == "summary.missing"
    assert result.trace.chosen == ()


def larger_number_in(first: str, second: str) -> float:
    return float(first.split()[-1].rstrip(".") > second.split()[-1].rstrip(".")) - 0.5


def test_an_answer_by_sentences_is_read_at_its_end() -> None:
    whole = "<SUMMARY> Count. It is 3.14 wide. </SUMMARY>\n\n" + answer(3).split("\n\n", 1)[1]
    engine = ScriptedEngine(reciting(whole), prefer=lambda a, b: 0.0)
    result = search(engine, strategy=Strategy.SENTENCE_BEAM, samples=2)
    assert (result.conclusion, result.text) == ("3", whole)
    assert [r.prefix for r in engine.written][1] == "<SUMMARY> Count."
    assert result.trace.chosen[-1].startswith(f"S{len(engine.written)}.")


def test_sentences_without_end_are_finished_alone() -> None:
    engine = ScriptedEngine(lambda request, index: "On. and on. and", prefer=lambda a, b: 0.0)
    result = search(engine, strategy=Strategy.SENTENCE_BEAM, samples=2, max_sentences=3)
    assert [len(r.seeds) for r in engine.written] == [2, 2, 2, 1]
    assert result.fault == "summary.missing"
