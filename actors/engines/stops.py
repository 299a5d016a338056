"""Recognising the end of a stage, or of a turn, on generated tokens alone.

A table for each stop text says which tokens could complete it, so that a step looks at one byte a
row; text is decoded only where that byte is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any


class StopTexts:
    """Looks for stop texts in token sequences of one tokenizer."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._tables: dict[tuple[str, ...], bytes] = {}

    @cached_property
    def _token_texts(self) -> list[str]:
        """Each token as text; one that is part of a character holds U+FFFD."""
        single = [[number] for number in range(self._vocabulary)]
        texts: list[str] = self._tokenizer.batch_decode(single, skip_special_tokens=True)
        return texts

    def table(self, stops: tuple[str, ...]) -> bytes:
        """One byte a token: 1 where the last character of one of ``stops`` could lie in that token."""
        if not stops:
            return bytes(self._vocabulary)
        if stops not in self._tables:
            self._tables[stops] = bytes(
                any(self._could_complete(text, stop) for stop in stops) for text in self._token_texts
            )
        return self._tables[stops]

    @staticmethod
    def _could_complete(text: str, stop: str) -> bool:
        if "\ufffd" in text:
            return not stop.isascii()
        return stop in text or any(text.startswith(stop[start:]) for start in range(len(stop)))

    def decode(self, ids: Sequence[int]) -> str:
        """Generated text: control tokens left out, white space as generated."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def is_complete(self, ids: Sequence[int], stops: Sequence[str]) -> bool:
        """Whether one of ``stops`` lies in the last tokens of ``ids``; call it when the table flags the last one."""
        # A token is at least a byte long, control tokens aside: those few more make up for them.
        tail = max(len(stop.encode()) for stop in stops) + 4
        text = self.decode(ids[-tail:])
        return any(stop in text for stop in stops)

    def text_until(self, ids: Sequence[int], stops: Sequence[str]) -> str:
        """The text of ``ids``, cut after the first of ``stops`` that occurs."""
        text = self.decode(ids)
        ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
        return text[: min(ends)] if ends else text
