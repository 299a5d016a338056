"""Preferences and step labels from search trees."""

from __future__ import annotations

import asyncio
from itertools import count

from pipelines.preferences import pairs_of, steps_of
from reasoning.protocols import ContinuationRequest
from reasoning.records import AnswerType, Question
from reasoning.search import run_search
from reasoning.search.config import SearchConfig, SelectorKind, Strategy
from reasoning.stages import FourStages, Stage, render_stage
from reasoning.testing import ScriptedEngine, reciting
from reasoning.trace import Trace

QUESTION = Question(id="q1", question="How many?", answer="3", answer_type=AnswerType.NUMBER)


def tree(engine: ScriptedEngine, **settings: object) -> Trace:
    ticks = count()
    config = SearchConfig(**{"selector": SelectorKind.JUDGE_LOGPROB, **settings})  # type: ignore[arg-type]
    found = asyncio.run(run_search(QUESTION, config, generator=engine, judge=engine, clock=lambda: float(next(ticks))))
    return found.trace


def answer(mark: int, conclusion: int) -> str:
    texts = {"summary": f"plan {mark}", "caption": "cubes", "reasoning": "counting"}
    return FourStages(**texts, conclusion=f"{conclusion}").render()


def numbered(request: ContinuationRequest, index: int) -> str:
    assert request.stage is not None
    return render_stage(request.stage, f"{index + 2}")


def test_right_whole_answers_are_chosen_over_wrong_ones_whatever_the_judge_said() -> None:
    engine = ScriptedEngine(reciting(answer(1, 3), answer(2, 4)), prefer=lambda a, b: 4.0 if "plan 2" in a else -4.0)
    trace = tree(engine, strategy=Strategy.BEST_OF_N, samples=2)
    [pair] = pairs_of(QUESTION, "best", trace)
    assert (pair.chosen, pair.rejected) == (answer(1, 3), answer(2, 4))
    assert (pair.stage, pair.prefix, pair.by, pair.margin) == (None, "", "answer", None)


def test_stages_are_paired_as_the_judge_said_with_what_stood_before() -> None:
    engine = ScriptedEngine(numbered, prefer=lambda a, b: float(int(a) - int(b)))
    pairs = list(pairs_of(QUESTION, "beam", tree(engine, samples=2)))
    by_stage = {pair.stage: pair for pair in pairs}
    assert len(pairs) == len(by_stage) == 4
    caption = by_stage[Stage.CAPTION]
    assert caption.prefix == "<SUMMARY> 3 </SUMMARY>\n\n"
    assert (caption.chosen, caption.rejected) == ("<CAPTION> 3 </CAPTION>", "<CAPTION> 2 </CAPTION>")
    assert caption.by == "judge"
    assert caption.margin is not None
    assert 0 < caption.margin < 1
    # Two conclusions, 3 and 2: the known answer decides, and it is not asked twice.
    assert by_stage[Stage.CONCLUSION].by == "answer"
    assert by_stage[Stage.CONCLUSION].chosen == "<CONCLUSION> 3 </CONCLUSION>"


def test_a_steps_label_is_the_share_of_right_answers_behind_it() -> None:
    engine = ScriptedEngine(numbered, prefer=lambda a, b: float(int(a) - int(b)))
    found = {steps.completions[-1]: steps for steps in steps_of(QUESTION, "beam", tree(engine, samples=2))}
    assert found["<CONCLUSION> 3 </CONCLUSION>"].labels == (0.5, 0.5, 0.5, 1.0)
    assert found["<CONCLUSION> 2 </CONCLUSION>"].labels == (0.5, 0.5, 0.5, 0.0)


def test_without_a_known_answer_only_the_judge_speaks() -> None:
    engine = ScriptedEngine(reciting(answer(1, 3), answer(2, 4)), prefer=lambda a, b: 4.0 if "plan 2" in a else -4.0)
    trace = tree(engine, strategy=Strategy.BEST_OF_N, samples=2)
    unknown = Question(id="q1", question="How many?")
    [pair] = pairs_of(unknown, "best", trace)
    assert (pair.chosen, pair.by) == (answer(2, 4), "judge")
    assert list(steps_of(unknown, "best", trace)) == []
