"""Reading an option's probability out of the words that an endpoint lists."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from actors.engines.openai_replies import option_logprobs

LOW = math.log(0.01)


def listed(text: str, **shares: float) -> Any:
    """One place of a reply: the token written, and each word's probability; ``_`` stands for a space."""
    top = [SimpleNamespace(token=word.replace("_", " "), logprob=math.log(p)) for word, p in shares.items()]
    own = next((one.logprob for one in top if one.token == text), LOW)
    return SimpleNamespace(token=text, logprob=own, top_logprobs=top)


def read(*places: Any, options: tuple[str, ...] = ("yes", "no")) -> tuple[float, ...] | None:
    return option_logprobs(SimpleNamespace(logprobs=SimpleNamespace(content=list(places))), options)


def shares(*places: Any) -> list[float]:
    found = read(*places)
    assert found is not None
    return [math.exp(value) for value in found]


def test_words_are_read_to_the_letter_first() -> None:
    assert shares(listed("yes", yes=0.6, no=0.3, Yes=0.05)) == pytest.approx([0.6, 0.3])


def test_other_spellings_count_where_an_option_is_missing_to_the_letter() -> None:
    assert shares(listed("Yes", Yes=0.5, _yes=0.2, NO=0.1)) == pytest.approx([0.7, 0.1])


def test_a_first_part_of_an_option_stands_for_it() -> None:
    assert shares(listed("ye", ye=0.5, n=0.25)) == pytest.approx([0.5, 0.25])


def test_white_space_before_the_word_counts_in() -> None:
    assert shares(listed(" ", _=0.5, x=0.1), listed("yes", yes=0.8, no=0.1)) == pytest.approx([0.4, 0.05])


def test_a_missing_option_gets_no_more_than_is_left() -> None:
    assert shares(listed("yes", yes=0.9, maybe=0.06)) == pytest.approx([0.9, 0.04])
    assert shares(listed("yes", yes=0.5, maybe=0.1)) == pytest.approx([0.5, 0.1])


def test_without_any_option_there_is_no_reading() -> None:
    assert read(listed("maybe", maybe=0.9), listed("yes", yes=0.9)) is None
    assert read() is None
