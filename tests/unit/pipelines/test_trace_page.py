"""A trace as a page: the tree, the winning path, the verdicts, nothing loaded, everything escaped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up

from pipelines.pages import image_uri, trace_view
from pipelines.trace_page import render_trace_page, write_trace_page
from reasoning.ledger import Ledger
from reasoning.records import ImageRef
from reasoning.trace import Trace


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
    assert "<script" not in page
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
