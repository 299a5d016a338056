"""Whole words decide; what cannot be read is no vote."""

from __future__ import annotations

import pytest

from reasoning.trace import Verdict
from reasoning.verdicts import parse_correctness, parse_validity, parse_verdict, verdict_text


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
