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
        self._tables: dict[str, bytes] = {}

    @cached_property
    def _token_texts(self) -> list[str]:
        """Each token as text; one that is part of a character holds U+FFFD."""
        single = [[number] for number in range(self._vocabulary)]
        texts: list[str] = self._tokenizer.batch_decode(single, skip_special_tokens=True)
        return texts

    def table(self, stop: str) -> bytes:
        """One byte a token: 1 where the last character of ``stop`` could lie in that token."""
        if stop not in self._tables:
            self._tables[stop] = bytes(self._could_complete(text, stop) for text in self._token_texts)
        return self._tables[stop]

    @staticmethod
    def _could_complete(text: str, stop: str) -> bool:
        if "\ufffd" in text:
            return not stop.isascii()
        return stop in text or any(text.startswith(stop[start:]) for start in range(len(stop)))

    def decode(self, ids: Sequence[int]) -> str:
        """Generated text: control tokens left out, white space as generated."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def is_complete(self, ids: Sequence[int], stop: str) -> bool:
        """Whether ``stop`` lies in the last tokens of ``ids``; call it when the table flags the last one."""
        # A token is at least a byte long, control tokens aside: those few more make up for them.
        tail = len(stop.encode()) + 4
        return stop in self.decode(ids[-tail:])

    def text_until(self, ids: Sequence[int], stop: str | None) -> str:
        """The text of ``ids``, cut after ``stop`` where it occurs."""
        text = self.decode(ids)
        if stop is None:
            return text
        before, found, _ = text.partition(stop)
        return before + found
