"""The checks of a teacher's reply, in order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.verifier import check_reply, check_stage_reply
from reasoning.records import AnswerType, Question, RejectReason
from reasoning.stages import FourStages, Stage

QUESTION = Question(id="q", question="How many cubes are there?", answer="2", answer_type=AnswerType.NUMBER)
GOOD = FourStages(summary="Count the cubes.", caption="Two red cubes.", reasoning="One, two.", conclusion="2")


def reason_of(
    text: str, question: Question = QUESTION, *, finish_reason: str = "stop", refusal: str | None = None
) -> RejectReason | None:
    return check_reply(question, text, finish_reason=finish_reason, refusal=refusal).reason


def test_good_reply_is_accepted_with_its_stages() -> None:
    check = check_reply(QUESTION, GOOD.render(), finish_reason="stop", refusal=None)
    assert (check.stages, check.reason) == (GOOD, None)


def test_finish_reason_comes_first() -> None:
    assert reason_of(GOOD.render(), finish_reason="length") is RejectReason.LENGTH
    assert reason_of(GOOD.render(), finish_reason="content_filter") is RejectReason.CONTENT_FILTER
    assert reason_of("", refusal="I won't.") is RejectReason.REFUSAL
    assert reason_of("  ") is RejectReason.EMPTY_REPLY


@pytest.mark.parametrize(
    "text",
    [
        GOOD.render().replace("</CAPTION>", ""),
        GOOD.render().replace("SUMMARY", "CAPTION"),
        f"Sure! {GOOD.render()}",
        "2",
    ],
)
def test_bad_form(text: str) -> None:
    assert reason_of(text) is RejectReason.BAD_FORMAT


@pytest.mark.parametrize("text", ["I'm sorry, but I can't help with that.", "As an AI, I see nothing."])
def test_words_of_refusal_are_no_bad_form(text: str) -> None:
    assert reason_of(text) is RejectReason.REFUSAL


def test_conclusion_that_declines() -> None:
    text = replace(GOOD, conclusion="I cannot determine how many.").render()
    assert reason_of(text) is RejectReason.REFUSAL


def test_seeing_nothing_is_an_answer_not_a_refusal() -> None:
    text = replace(GOOD, conclusion="I cannot see a third cube: 2").render()
    assert reason_of(text) is not RejectReason.REFUSAL


def test_wrong_answer_says_both() -> None:
    check = check_reply(QUESTION, replace(GOOD, conclusion="3").render(), finish_reason="stop", refusal=None)
    assert check.reason is RejectReason.WRONG_ANSWER
    assert not check.needs_opinion
    assert "'3'" in check.detail
    assert "'2'" in check.detail


def test_wrong_by_rule_in_free_words_needs_an_opinion() -> None:
    question = replace(QUESTION, answer="a pair of cubes", answer_type=AnswerType.FREE)
    check = check_reply(question, GOOD.render(), finish_reason="stop", refusal=None)
    assert check.reason is RejectReason.WRONG_ANSWER
    assert check.needs_opinion


def test_without_standard_answer_nothing_is_decided() -> None:
    assert reason_of(GOOD.render(), replace(QUESTION, answer=None)) is RejectReason.UNDECIDED


@pytest.mark.parametrize(
    "words", ["This matches the standard answer.", "The provided answer is 2.", "So says the ground truth."]
)
def test_speaking_of_the_given_answer_is_a_leak(words: str) -> None:
    assert reason_of(replace(GOOD, reasoning=f"One, two. {words}").render()) is RejectReason.LEAK


@pytest.mark.parametrize("words", ["So the correct answer is 2.", "The answer is 2."])
def test_speaking_of_an_answer_is_no_leak(words: str) -> None:
    assert reason_of(replace(GOOD, reasoning=f"One, two. {words}").render()) is None


def test_words_of_the_question_are_no_leak() -> None:
    question = replace(QUESTION, question="Does the expected answer on the sheet say how many cubes there are?")
    assert reason_of(replace(GOOD, reasoning="The expected answer on the sheet says 2.").render(), question) is None


def test_one_stage() -> None:
    said = check_stage_reply("<CAPTION> Two. </CAPTION>", Stage.CAPTION, finish_reason="stop", refusal=None)
    assert said == "Two."
    wrong = check_stage_reply("<SUMMARY> Two. </SUMMARY>", Stage.CAPTION, finish_reason="stop", refusal=None)
    assert not isinstance(wrong, str)
    assert wrong.reason is RejectReason.BAD_FORMAT
