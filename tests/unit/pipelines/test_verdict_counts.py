"""Verdicts that were unreadable, swapped or tied: in each answer's row and in the tables of a run."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import made_up

from pipelines.answering import result_columns
from pipelines.answers import COUNT_FIELDS, table_of
from pipelines.compare import counts_table
from pipelines.evaluate import evaluate_answers
from pipelines.report import ReportData, render_report
from reasoning.protocols import ContinuationRequest
from reasoning.search import run_search
from reasoning.search.config import SearchConfig, SelectorKind
from reasoning.stages import render_stage
from reasoning.testing import ScriptedEngine
from reasoning.trace import Verdict


def test_a_row_counts_its_own_verdicts() -> None:
    def write(request: ContinuationRequest, index: int) -> str:
        if "Compare two responses" in request.prompt:
            return "Since so, I choose response 1." if request.stage != "CAPTION" else "both are fine"
        assert request.stage is not None
        return render_stage(request.stage, f"{index}")

    engine = ScriptedEngine(write)
    config = SearchConfig(samples=2, selector=SelectorKind.JUDGE_TEXT)
    result = asyncio.run(run_search(made_up.question(), config, generator=engine, judge=engine, clock=lambda: 0.0))
    [row] = table_of([result_columns(made_up.question(), result)]).to_pylist()
    assert {name: row[name] for name in COUNT_FIELDS} == {
        "comparisons": 4,
        "unreadable": 1,
        "swapped": 3,
        "tied": 3,
        "fallbacks": 1,
    }


def test_a_runs_table_adds_them_up_and_leaves_out_who_never_compared() -> None:
    trace = made_up.beam()
    unread = replace(trace.comparisons[0], verdict=Verdict.UNREADABLE)
    noted = replace(trace, comparisons=(*trace.comparisons, unread), notes=("caption: the judge was lost",))
    answers = [made_up.answer(made_up.question(i), search="beam", trace=t) for i, t in enumerate((trace, noted))]
    plain = [made_up.answer(made_up.question(0))]
    # Without a known answer nothing is graded; the verdicts count all the same.
    unknown = made_up.answer(made_up.question(9, answer=None), search="beam", trace=trace)
    evaluation = evaluate_answers({("m", "greedy"): plain, ("m", "beam"): [*answers, unknown]})
    assert counts_table(evaluation).rows == (("m", "beam", "7", "1", "3", "3", "1"),)
    page = render_report(ReportData(title="t", evaluation=evaluation))
    assert "Verdicts: unreadable, swapped, tied" in page
    quiet = evaluate_answers({("m", "greedy"): plain})
    assert "Verdicts:" not in render_report(ReportData(title="t", evaluation=quiet))
