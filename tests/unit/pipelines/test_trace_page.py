"""A trace as a page: the tree, the winning path, the verdicts, nothing loaded, everything escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import made_up

from pipelines.pages import image_uri
from pipelines.trace_page import render_trace_page, stage_table, time_line, write_trace_page
from pipelines.trace_view import trace_view
from reasoning.ledger import Ledger
from reasoning.records import ImageRef
from reasoning.stages import Stage
from reasoning.trace import Step, StepKind, Trace


def test_winning_path_is_marked_from_root_to_leaf() -> None:
    view = trace_view(made_up.question(), made_up.beam(), conclusion="3")
    states = {node.id: node.state for node in view.nodes}
    assert [name for name, state in states.items() if state == "chosen"] == ["S1.1", "S2.1", "S3.1", "S4.1"]
    assert states["S1.2"] == "fault"
    assert states["S2.2"] == "kept"
    assert states["S4.2"] == "dropped"
    assert sum(edge.is_chosen for edge in view.edges) == 3
    assert [level.name for level in view.levels] == ["summary", "caption", "reasoning", "conclusion"]


def test_right_and_wrong_are_shown_where_the_answer_is_known() -> None:
    cards = {
        c.id: c for level in trace_view(made_up.question(), made_up.beam(), conclusion="3").levels for c in level.cards
    }
    assert (cards["S4.1"].is_right, cards["S4.2"].is_right, cards["S2.1"].is_right) == (True, False, None)
    unknown = trace_view(made_up.question(answer=None), made_up.beam(), conclusion="3")
    assert unknown.is_correct is None
    assert all(card.is_right is None for level in unknown.levels for card in level.cards)


def test_verdict_names_the_winner_and_how_sure() -> None:
    levels = {level.name: level for level in trace_view(made_up.question(), made_up.beam(), conclusion="3").levels}
    [caption] = levels["caption"].verdicts
    assert (caption.outcome, caption.detail) == ("S2.1", "70 %")
    [conclusion] = levels["conclusion"].verdicts
    assert conclusion.outcome == "undecided"
    assert "the orders disagree" in conclusion.detail


def test_page_has_picture_candidates_and_cost() -> None:
    page = render_trace_page(
        made_up.question(), made_up.beam(), conclusion="3", ledger=Ledger(prompt_tokens=1234, seconds=1.5), model="tiny"
    )
    for text in ("data:image/png;base64,", "Three cubes.", "1,234", "1.50", "tiny", "summary.unclosed"):
        assert text in page


def test_candidate_with_html_stays_text() -> None:
    hostile = "</p><script>alert(1)</script>"
    trace = made_up.beam()
    trace = replace(trace, candidates=(replace(trace.candidates[0], text=hostile, id="<b>"), *trace.candidates[1:]))
    page = render_trace_page(made_up.question(), trace, conclusion=hostile)
    assert page.count("<script") == 1
    assert "&lt;script&gt;" in page
    assert "<q>Since &lt;b&gt;I am" in page


def test_bytes_that_are_no_picture_are_not_embedded() -> None:
    assert image_uri(b"<svg onload=alert(1)>") is None
    asked = replace(made_up.question(), image=ImageRef(data=b"<svg>", media_type="image/svg+xml"))
    assert "<img" not in render_trace_page(asked, made_up.beam(), conclusion=None)


def test_empty_trace_is_a_page_too() -> None:
    page = render_trace_page(made_up.question(), Trace(question_id="q1", strategy="greedy"), conclusion=None)
    assert "none" in page


def test_page_is_written_whole(tmp_path: Path) -> None:
    path = write_trace_page(tmp_path / "out.html", made_up.question(), made_up.beam(), conclusion="3")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_card_tells_whom_it_met_and_how_it_went() -> None:
    view = trace_view(made_up.question(), made_up.beam(), conclusion="3")
    cards = {card.id: card for level in view.levels for card in level.cards}
    [won], [lost] = cards["S2.1"].meetings, cards["S2.2"].meetings
    assert (won.other.id, won.outcome, won.detail) == ("S2.2", "won", "70 % for S2.1, 30 % for S2.2")
    assert (lost.other.anchor, lost.outcome, lost.detail) == (
        cards["S2.1"].anchor,
        "lost",
        "30 % for S2.2, 70 % for S2.1",
    )
    [tie] = cards["S4.1"].meetings
    assert (tie.outcome, tie.reply) == ("tied", "Since <b>I am</b> unsure, I choose response 2.")
    assert [link.id for link in cards["S2.1"].children] == ["S3.1"]
    assert cards["S1.1"].parent is None


def test_a_candidate_that_repeats_another_names_it() -> None:
    trace = made_up.beam()
    again = replace(trace.candidates[2], id="S2.3", is_kept=False)
    view = trace_view(made_up.question(), replace(trace, candidates=(*trace.candidates, again)), conclusion="3")
    cards = {card.id: card for level in view.levels for card in level.cards}
    assert cards["S2.3"].twin is not None
    assert cards["S2.3"].twin.id == "S2.1"
    assert cards["S2.1"].twin is None


def test_sentences_stand_one_below_the_other_with_children_beside_one_another() -> None:
    candidates = (
        made_up.candidate("S1.1", "One."),
        made_up.candidate("S1.2", "Two.", is_kept=True),
        made_up.candidate("S2.1", "Three.", parent="S1.2"),
        made_up.candidate("S2.2", "Four.", parent="S1.1"),
    )
    trace = Trace(question_id="q1", strategy="sentence_beam", candidates=candidates, chosen=("S1.2", "S2.1"))
    view = trace_view(made_up.question(), trace, conclusion="3")
    assert [level.name for level in view.levels] == ["sentence 1", "sentence 2"]
    assert [card.id for card in view.levels[1].cards] == ["S2.2", "S2.1"]
    ended = dict(view.levels[0].cards[0].facts)["Ended by"]
    assert ended == "the end of a sentence"


def test_log_probabilities_that_are_none_are_not_shown() -> None:
    trace = Trace(
        question_id="q1",
        strategy="greedy",
        candidates=(replace(made_up.whole("S1.1", "3"), logprob=None),),
        chosen=("S1.1",),
    )
    page = render_trace_page(made_up.question(), trace, conclusion="3")
    assert "nan" not in page
    assert "Log-probability" not in page


def step(kind: StepKind, stage: Stage | None, started_s: float, ended_s: float, tokens: int = 10) -> Step:
    return Step(kind=kind, stage=stage, started_s=started_s, ended_s=ended_s, tokens=tokens)


def test_times_lie_on_one_line_and_what_overlaps_counts_once() -> None:
    steps = (
        step(StepKind.WRITE, Stage.SUMMARY, 0, 2),
        step(StepKind.SELECT, Stage.SUMMARY, 2, 3),
        step(StepKind.SELECT, Stage.SUMMARY, 2, 4),
        step(StepKind.WRITE, Stage.CAPTION, 4, 8),
    )
    line = time_line(steps)
    assert line is not None
    assert [(row.name, row.total) for row in line.rows] == [("summary", "4.0 s"), ("caption", "4.0 s")]
    assert [(bar.left, bar.width) for bar in line.rows[0].bars] == [(0, 25), (25, 12.5), (25, 25)]
    table = stage_table(replace(made_up.beam(), steps=steps))
    [summary] = [row for row in table.rows if row[0] == "summary"]
    assert summary[-3:] == ("20", "2.0 s", "2.0 s")


def test_a_trace_without_times_is_shown_without_them() -> None:
    assert time_line(()) is None
    assert "judge tokens" not in stage_table(made_up.beam()).columns
    assert 'class="times"' not in render_trace_page(made_up.question(), made_up.beam(), conclusion="3")


def test_notes_and_counters_stand_at_the_head() -> None:
    trace = replace(made_up.beam(), notes=("caption: the judge was lost (<gone>); took the likeliest instead",))
    page = render_trace_page(made_up.question(), trace, conclusion="3")
    for text in ("comparisons <b>2</b>", "swapped <b>1</b>", "fallbacks <b>1</b>", "lost (&lt;gone&gt;)"):
        assert text in page


def test_the_pages_policy_names_its_script_by_its_hash() -> None:
    page = render_trace_page(made_up.question(), made_up.beam(), conclusion="3")
    [code] = re.findall(r"<script>(.*)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
