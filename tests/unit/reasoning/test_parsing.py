"""Any text becomes four stages or a typed fault with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning.parsing import FaultKind, ParseFault, continued, parse_stage, parse_stages
from reasoning.stages import STAGES, TAGS, FourStages, Stage, render_stage

S, C, R, K = (render_stage(stage, stage.value.lower()) for stage in STAGES)
words = st.text(min_size=1).map(str.strip).filter(lambda t: t and not any(tag in t for tag in TAGS))
stages = st.builds(FourStages, summary=words, caption=words, reasoning=words, conclusion=words)
tag_soup = st.lists(st.one_of(st.sampled_from(TAGS), st.sampled_from(["a", " ", "\n\n", "<", "</SUMMARY"]))).map(
    "".join
)


@given(stages)
def test_rendered_stages_parse_back(four: FourStages) -> None:
    assert parse_stages(four.render()) == four


@given(st.one_of(st.text(), tag_soup))
def test_any_text_parses_or_has_a_placed_fault(text: str) -> None:
    outcome = parse_stages(text)
    if isinstance(outcome, ParseFault):
        assert 0 <= outcome.position <= len(text)
        assert outcome.message
    else:
        assert parse_stages(outcome.render()) == outcome


@given(st.one_of(st.text(), tag_soup), st.sampled_from(STAGES))
def test_any_continuation_parses_or_has_a_placed_fault(text: str, stage: Stage) -> None:
    outcome = parse_stage(text, stage)
    if isinstance(outcome, ParseFault):
        assert 0 <= outcome.position <= len(text)
    else:
        assert outcome == outcome.strip() != ""


@pytest.mark.parametrize(
    ("text", "kind", "stage", "at"),
    [
        ("", FaultKind.EMPTY, Stage.SUMMARY, ""),
        (" \n", FaultKind.EMPTY, Stage.SUMMARY, ""),
        ("It is 3.", FaultKind.MISSING, Stage.SUMMARY, "It is"),
        (S + C + R, FaultKind.MISSING, Stage.CONCLUSION, ""),
        (S + R + K, FaultKind.MISSING, Stage.CAPTION, "<REASONING>"),
        (S + R + C + K, FaultKind.OUT_OF_ORDER, Stage.REASONING, "<REASONING>"),
        (S + C + C + R + K, FaultKind.DOUBLED, Stage.CAPTION, "<CAPTION>"),
        (S + C + R + K + K, FaultKind.DOUBLED, Stage.CONCLUSION, "<CONCLUSION>"),
        ("<SUMMARY> <SUMMARY> a </SUMMARY>" + C + R + K, FaultKind.DOUBLED, Stage.SUMMARY, "<SUMMARY>"),
        (S + "</SUMMARY>" + C + R + K, FaultKind.DOUBLED, Stage.SUMMARY, "</SUMMARY>"),
        ("</CAPTION>" + S + C + R + K, FaultKind.UNOPENED, Stage.CAPTION, "</CAPTION>"),
        ("<SUMMARY> a </CAPTION>" + R + K, FaultKind.UNOPENED, Stage.CAPTION, "</CAPTION>"),
        (f"<SUMMARY> a {C} </SUMMARY>" + R + K, FaultKind.NESTED, Stage.CAPTION, "<CAPTION>"),
        ("<SUMMARY> a " + C + R + K, FaultKind.UNCLOSED, Stage.SUMMARY, "<SUMMARY>"),
        (S + C + R + "<CONCLUSION> 3", FaultKind.UNCLOSED, Stage.CONCLUSION, "<CONCLUSION>"),
        ("Sure! " + S + C + R + K, FaultKind.TEXT_OUTSIDE, Stage.SUMMARY, "Sure!"),
        (S + " and " + C + R + K, FaultKind.TEXT_OUTSIDE, Stage.CAPTION, "and"),
        (S + C + R + K + " Done.", FaultKind.TEXT_OUTSIDE, Stage.CONCLUSION, "Done."),
        (S + "<CAPTION>  </CAPTION>" + R + K, FaultKind.EMPTY_STAGE, Stage.CAPTION, "<CAPTION>"),
    ],
)
def test_fault_names_its_kind_stage_and_place(text: str, kind: FaultKind, stage: Stage, at: str) -> None:
    fault = parse_stages(text)
    assert isinstance(fault, ParseFault)
    assert (fault.kind, fault.stage) == (kind, stage)
    assert text[fault.position :].startswith(at)
    assert fault.code == f"{stage.value.lower()}.{kind.value}"


def test_white_space_around_tags_is_free() -> None:
    text = "\n<SUMMARY>\na\n</SUMMARY><CAPTION>b</CAPTION>\n\n\n<REASONING> c</REASONING> <CONCLUSION>d </CONCLUSION>\n"
    assert parse_stages(text) == FourStages(summary="a", caption="b", reasoning="c", conclusion="d")


def test_one_stage_is_read_from_a_continuation() -> None:
    assert parse_stage(" <CAPTION> two cubes </CAPTION>\n\n", Stage.CAPTION) == "two cubes"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<REASONING> x </REASONING>", FaultKind.MISSING),
        ("<CAPTION> x", FaultKind.UNCLOSED),
        ("two cubes </CAPTION>", FaultKind.TEXT_OUTSIDE),
        ("two cubes", FaultKind.MISSING),
        ("<CAPTION> x </CAPTION> <CAPTION> y </CAPTION>", FaultKind.DOUBLED),
        ("<CAPTION> x </CAPTION> <REASONING> y </REASONING>", FaultKind.OUT_OF_ORDER),
        ("<CAPTION> x <REASONING> y </CAPTION>", FaultKind.NESTED),
    ],
)
def test_a_continuation_that_is_not_its_stage_has_a_fault(text: str, kind: FaultKind) -> None:
    fault = parse_stage(text, Stage.CAPTION)
    assert isinstance(fault, ParseFault)
    assert fault.kind is kind


@pytest.mark.parametrize("written", [S, S + "\n", S + "\n\n"])
def test_separator_is_completed_and_nothing_else_changed(written: str) -> None:
    assert continued("", written) == S + "\n\n"
