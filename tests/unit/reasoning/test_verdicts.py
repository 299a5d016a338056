"""Whole words decide; what cannot be read is no vote."""

from __future__ import annotations

import pytest

from reasoning.trace import Verdict
from reasoning.verdicts import (
    parse_answer_line,
    parse_consistency,
    parse_correctness,
    parse_validity,
    parse_verdict,
    verdict_text,
)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("I choose response 1.", Verdict.FIRST),
        ("Since it is right, I choose response 2.", Verdict.SECOND),
        ("Since it is right, I choose response [2].", Verdict.SECOND),
        ("since so, i choose Response 1", Verdict.FIRST),
        ("Since response 2 says 'I choose response 1', I choose response 2.", Verdict.SECOND),
        ("I choose response 1. It is better than the other.", Verdict.FIRST),
        ("I choose response 1. No: I choose response 2 here, or not.", Verdict.UNREADABLE),
        ("Response 2 is better.", Verdict.UNREADABLE),
        ("I choose response 12.", Verdict.UNREADABLE),
        ("I choose response 1.5", Verdict.UNREADABLE),
        ("I choose response [1/2].", Verdict.UNREADABLE),
        ("I choose response [1]/[2].", Verdict.UNREADABLE),
        ("I choose response 1 or response 2.", Verdict.UNREADABLE),
        ("I choose response 1 and not response 2.", Verdict.FIRST),
        ("", Verdict.UNREADABLE),
    ],
)
def test_verdicts_are_read_by_whole_words(reply: str, verdict: Verdict) -> None:
    assert parse_verdict(reply) is verdict


def test_written_verdicts_are_read_back() -> None:
    assert parse_verdict(verdict_text(1)) is Verdict.FIRST
    assert parse_verdict(verdict_text(2, "the first misses a cube")) is Verdict.SECOND


@pytest.mark.parametrize(
    ("reply", "valid"),
    [
        ("valid", True),
        ("Valid.", True),
        ("invalid", False),
        ("The answer is invalid.", False),
        ("valid or invalid", None),
        ("not valid", None),
        ("It isn't invalid", None),
        ("validated", None),
        ("", None),
    ],
)
def test_undecided_validity_is_neither(reply: str, valid: bool | None) -> None:
    assert parse_validity(reply) is valid


def test_incorrect_does_not_contain_correct() -> None:
    assert parse_correctness("incorrect") is False
    assert parse_correctness("Correct") is True


@pytest.mark.parametrize(
    ("reply", "consistent"),
    [
        ("consistent", True),
        ("**Consistent**", True),
        ("Consistent. Everything that is named can be seen.", True),
        ("The description is consistent.", True),
        ("Inconsistent: the ball isn't red but blue.", False),
        ("inconsistent\nThe rest is consistent with the picture, the count is not.", False),
        ("Looking closely: inconsistent, there are three cubes.", False),
        ("not consistent: two cubes", None),
        ("consistent or inconsistent", None),
        ("consistency", None),
        ("I can't tell.", None),
        ("", None),
    ],
)
def test_consistency_is_read_before_its_reason(reply: str, consistent: bool | None) -> None:
    assert parse_consistency(reply) is consistent


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("One, two.\nAnswer: 2", "2"),
        ("Two cubes.\n\n**Answer:** B", "B"),
        ("Two cubes.\n**Final answer: two red cubes**\n", "two red cubes"),
        ("Answer: 3\nNo, one is hidden.\nAnswer: 4", "4"),
        ("The answer: no", "no"),
        ("- Answer: it is 12:30", "it is 12:30"),
        ("B", "B"),
        ("It is red.", "It is red."),
        ("One, two.\nSo two.", None),
        ("Answer:", None),
        ("One.\nAnswer:", None),
        ("x" * 201, None),
        ("", None),
    ],
)
def test_answer_is_the_last_line_that_names_one(reply: str, answer: str | None) -> None:
    assert parse_answer_line(reply) == answer
