"""Where the options of a choice part, as tokens."""

from __future__ import annotations

from collections.abc import Callable

from actors.chat import common_length
from reasoning.errors import InputError
from reasoning.protocols import ChoiceRequest


def option_tokens(request: ChoiceRequest, encode: Callable[[str], list[int]]) -> tuple[list[int], tuple[int, ...]]:
    """The tokens that all options share, and for each option the first one of its own.

    ``encode`` gives the ids of the conversation with the assistant's turn begun by a text; prefix and
    option are encoded together. Raises InputError when two options begin with the same token.
    """
    if not request.options:
        raise InputError("ChoiceRequest.options is empty; give the words to choose from")
    # One option alone is set against the bare prefix.
    endings = request.options if len(request.options) > 1 else (*request.options, "")
    whole = [encode(request.prefix + ending) for ending in endings]
    shared = min(common_length(whole[0], other) for other in whole[1:])
    whole = whole[: len(request.options)]
    firsts = tuple(ids[shared] if shared < len(ids) else -1 for ids in whole)
    if -1 in firsts or len(set(firsts)) < len(firsts):
        raise InputError(f"ChoiceRequest.options {request.options} do not each begin with a different token")
    return whole[0][:shared], firsts
