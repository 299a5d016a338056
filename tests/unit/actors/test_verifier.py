"""The checks of a teacher's reply, in order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.verifier import Check, Rung, check_reply, check_stage_reply, is_rule_sure
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


def test_words_of_a_hint_that_the_student_sees_are_no_leak() -> None:
    text = replace(GOOD, reasoning="The hint says to count: one, two.").render()
    assert reason_of(text) is RejectReason.LEAK
    assert reason_of(text, replace(QUESTION, meta={"teacher_hint": "count"})) is RejectReason.LEAK
    assert reason_of(text, replace(QUESTION, hint="Count.")) is None


def test_rungs_passed_are_recorded_in_order() -> None:
    rungs = (Rung.ENDING, Rung.FORM, Rung.REFUSAL, Rung.ANSWER_BY_RULE, Rung.LEAK)
    cases = [
        (GOOD.render(), rungs),
        (replace(GOOD, reasoning="By the standard answer.").render(), rungs[:4]),
        (replace(GOOD, conclusion="3").render(), rungs[:3]),
        (replace(GOOD, conclusion="I cannot answer.").render(), rungs[:2]),
        ("2", rungs[:1]),
    ]
    for text, passed in cases:
        assert check_reply(QUESTION, text, finish_reason="stop", refusal=None).passed == passed
    assert check_reply(QUESTION, GOOD.render(), finish_reason="length", refusal=None).passed == ()


def test_a_stage_written_without_the_picture_is_a_refusal() -> None:
    check = check_reply(
        QUESTION, replace(GOOD, caption="No image was provided.").render(), finish_reason="stop", refusal=None
    )
    assert (check.reason, check.stage) == (RejectReason.REFUSAL, Stage.CAPTION)


def test_an_answer_that_declines_is_right_where_it_is_the_standard_answer() -> None:
    bubble = replace(QUESTION, question="What does he say?", answer="I'm sorry", answer_type=AnswerType.TEXT)
    assert reason_of(replace(GOOD, conclusion="I'm sorry").render(), bubble) is None


def test_undecidable_things_said_on_the_way_are_no_refusal() -> None:
    text = replace(GOOD, reasoning="We cannot determine the height, but two cubes are there.").render()
    assert reason_of(text) is None
    assert reason_of(text.replace("</REASONING>", "")) is RejectReason.BAD_FORMAT


@pytest.mark.parametrize(
    ("answer", "answer_type", "choices", "conclusion", "is_sure"),
    [
        ("B", AnswerType.CHOICE, ("red", "blue"), "A", True),
        ("B", AnswerType.CHOICE, ("red", "blue"), "something bluish", True),
        ("B", AnswerType.FREE, ("red", "blue"), "A", True),
        ("2", AnswerType.NUMBER, (), "a pair", True),
        ("yes", AnswerType.TEXT, (), "No, it is closed.", True),
        ("yes", AnswerType.TEXT, (), "It is open.", False),
        ("7", AnswerType.FREE, (), "The answer is 8.", True),
        ("7", AnswerType.FREE, (), "a week's worth of days", False),
        ("1000 m", AnswerType.TEXT, (), "1 km", False),
        ("5 cm", AnswerType.TEXT, (), "6 cm", True),
        ("5 cm", AnswerType.TEXT, (), "6", True),
        ("ITC Limited", AnswerType.TEXT, (), "ITC Ltd.", False),
        ("a dog runs", AnswerType.FREE, (), "A running dog.", False),
        ("no parking", AnswerType.TEXT, (), "No", False),
    ],
)
def test_a_rules_no_stands_where_the_rule_can_read_both(
    answer: str, answer_type: AnswerType, choices: tuple[str, ...], conclusion: str, is_sure: bool
) -> None:
    question = Question(id="q", question="?", answer=answer, answer_type=answer_type, choices=choices)
    assert is_rule_sure(question, conclusion) is is_sure
    check = check_reply(question, replace(GOOD, conclusion=conclusion).render(), finish_reason="stop", refusal=None)
    assert check.needs_opinion is not is_sure


@pytest.mark.parametrize(
    ("answer", "answers", "answer_type", "choices", "conclusion"),
    [
        ("B", (), AnswerType.CHOICE, ("red", "blue"), "blue"),
        ("blue", (), AnswerType.CHOICE, ("red", "blue"), "(B)"),
        ("The answer is B.", (), AnswerType.CHOICE, ("red", "blue"), "B. blue"),
        ("145°", (), AnswerType.CHOICE, ("35°", "145°"), "B"),
        ("21", (), AnswerType.NUMBER, (), "The total is 21."),
        ("Yes", (), AnswerType.TEXT, (), "Yes, it is."),
        ("ITC Limited", ("ITC Limited", "itc ltd"), AnswerType.TEXT, (), "ITC Ltd"),
        ("12,000", (), AnswerType.NUMBER, (), "12000"),
    ],
)
def test_answers_of_the_data_sets_forms_need_no_judge(
    answer: str, answers: tuple[str, ...], answer_type: AnswerType, choices: tuple[str, ...], conclusion: str
) -> None:
    question = Question(id="q", question="?", answer=answer, answers=answers, answer_type=answer_type, choices=choices)
    assert reason_of(replace(GOOD, conclusion=conclusion).render(), question) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Two red cubes.", "Two red cubes."),
        ("Caption: Two red cubes.", "Two red cubes."),
        ("**CAPTION**\nTwo red cubes.", "Two red cubes."),
        ("### Caption\n\nTwo red cubes.", "Two red cubes."),
        ("<CAPTION> Two red cubes.", None),
        ("<caption>Two red cubes.</caption>", None),
        ("Summary: count.\nCaption: two red cubes.", None),
        ("Here you are.\nCaption: two red cubes.", None),
        ("Two red cubes.\nConclusion: 2", None),
        ("Caption:", None),
    ],
)
def test_a_stage_without_tags_is_taken_where_nothing_else_is_in_the_reply(text: str, found: str | None) -> None:
    said = check_stage_reply(text, Stage.CAPTION, finish_reason="stop", refusal=None)
    if found is not None:
        assert said == found
    else:
        assert isinstance(said, Check)
        assert said.reason is RejectReason.BAD_FORMAT


def test_a_stage_without_tags_that_declines_is_a_refusal() -> None:
    said = check_stage_reply("I'm sorry, I can't help.", Stage.CAPTION, finish_reason="stop", refusal=None)
    assert isinstance(said, Check)
    assert said.reason is RejectReason.REFUSAL


def test_one_stage() -> None:
    said = check_stage_reply("<CAPTION> Two. </CAPTION>", Stage.CAPTION, finish_reason="stop", refusal=None)
    assert said == "Two."
    wrong = check_stage_reply("<SUMMARY> Two. </SUMMARY>", Stage.CAPTION, finish_reason="stop", refusal=None)
    assert not isinstance(wrong, str)
    assert wrong.reason is RejectReason.BAD_FORMAT
