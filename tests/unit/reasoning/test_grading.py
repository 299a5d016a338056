"""Answers that mean the same are the same; nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning.errors import InputError
from reasoning.grading import canonical, choice_index, is_correct
from reasoning.records import AnswerType, Question

COLOURS = ("blue", "red", "dark red", "a bird")


def asked(gold: str | None, choices: tuple[str, ...] = (), kind: str = "free") -> Question:
    return Question(id="q", question="?", answer=gold, choices=choices, answer_type=AnswerType(kind))


@pytest.mark.parametrize(
    ("gold", "choices", "kind", "conclusion"),
    [
        ("B", COLOURS, "choice", "red"),
        ("red", COLOURS, "choice", "B"),
        ("red", COLOURS, "choice", "(B) red"),
        ("red", COLOURS, "choice", "**B**"),
        ("red", COLOURS, "choice", "The answer is B."),
        ("red", COLOURS, "choice", "option B"),
        ("dark red", COLOURS, "choice", "The square is dark red."),
        ("red", COLOURS, "choice", "b"),
        ("C", (), "choice", "C. cat"),
        ("C.", (), "choice", "(C)"),
        ("3", (), "number", "There are 3 cubes."),
        ("3", (), "number", "three"),
        ("1234", (), "number", "1,234"),
        ("-4", (), "number", "−4"),
        ("10", (), "number", "$10"),
        ("5", (), "number", "5 cm"),
        ("3", (), "number", "5 - 2 = 3"),
        ("50%", (), "number", "0.5"),
        ("21", (), "number", "twenty-one"),
        ("205", (), "number", "two hundred and five"),
        ("1/2", (), "number", "0.5"),
        ("145°", (), "number", "145 degrees"),
        ("yes", (), "text", "Yes, there is."),
        ("no", (), "text", "There is no cube."),
        ("red", (), "text", "The cube is red."),
        ("red", (), "text", "Red."),
        ("two dogs", (), "text", "2 dogs"),
        ("0", (), "number", "none"),
        ("3", (), "text", "3."),
        ("140°", ("(A) 1", "140°"), "choice", "(B) 140°"),
        ("3", ("3", "5", "7", "9"), "choice", "A"),
        ("A", ("3", "5", "7", "9"), "choice", "3"),
        ("top left", ("top left", "left"), "choice", "It is in the top left."),
    ],
)
def test_right_answers(gold: str, choices: tuple[str, ...], kind: str, conclusion: str) -> None:
    assert is_correct(asked(gold, choices, kind), conclusion) is True


@pytest.mark.parametrize(
    ("gold", "choices", "kind", "conclusion"),
    [
        ("red", COLOURS, "choice", "The square is dark red."),
        ("blue", COLOURS, "choice", "A bird sits there"),
        ("blue", COLOURS, "choice", "A red thing"),
        ("red", COLOURS, "choice", "B. blue"),
        ("red", COLOURS, "choice", "it is not red"),
        ("10", (), "number", "10:30"),
        ("3", (), "number", "3 or 4"),
        ("yes", (), "text", "No"),
        ("red", (), "text", "The cube is not red."),
        ("3.14", (), "number", "3.1416"),
    ],
)
def test_wrong_answers(gold: str, choices: tuple[str, ...], kind: str, conclusion: str) -> None:
    assert is_correct(asked(gold, choices, kind), conclusion) is False


def test_any_accepted_form_will_do() -> None:
    question = Question(id="q", question="?", answer="grey", answers=("gray", "silver"))
    assert is_correct(question, "Silver.")
    assert not is_correct(question, "gold")


def test_no_standard_answer_is_no_grade() -> None:
    with pytest.raises(InputError, match="no standard answer"):
        is_correct(asked(None), "3")


@given(st.text(), st.sampled_from(AnswerType), st.sampled_from([(), COLOURS]))
def test_every_conclusion_is_graded(conclusion: str, kind: AnswerType, choices: tuple[str, ...]) -> None:
    is_correct(asked("B", choices, kind), conclusion)
    assert canonical(asked(None, choices, kind), conclusion)


@given(st.integers(-(10**9), 10**9))
def test_numbers_are_the_same_with_and_without_separators(number: int) -> None:
    assert is_correct(asked(str(number), (), "number"), f"The answer is {number:,}.")
    assert not is_correct(asked(str(number), (), "number"), str(number + 1))


@given(st.integers(0, 3))
def test_letter_and_text_mean_the_same_option(index: int) -> None:
    letter = "ABCD"[index]
    for form in (letter, f"{letter}.", f"({letter}) {COLOURS[index]}", COLOURS[index], f"The answer is {letter}."):
        assert choice_index(form, COLOURS) == index


@pytest.mark.parametrize(
    ("question", "same", "other"),
    [
        (asked(None, COLOURS), ("B", "red", "The answer is (B) red."), "A"),
        (asked(None, (), "number"), ("3", "three", "There are 3 cubes.", "5 - 2 = 3"), "4"),
        (asked(None, (), "text"), ("Yes.", "yes", "Yes, there is one."), "No"),
        (asked(None, (), "text"), ("Red", "red.", "The answer is red"), "blue"),
        (asked(None, (), "choice"), ("B", "B. red", "(B)"), "C"),
    ],
)
def test_votes_for_the_same_answer_count_together(question: Question, same: tuple[str, ...], other: str) -> None:
    assert len({canonical(question, conclusion) for conclusion in same}) == 1
    assert canonical(question, other) != canonical(question, same[0])
