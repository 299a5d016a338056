"""From a chat completion to continuations, choices and counts. Pure functions.

Servers send what they like and the client does not check it: nothing here is taken for granted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.engines.config import Continuing, OpenAIEngineConfig
from reasoning.ledger import Usage
from reasoning.protocols import Continuation, ContinuationRequest, StopReason
from reasoning.stages import STAGES

_STOP_FIELDS = ("stop_reason", "matched_stop")
"""Where vLLM and SGLang name the stop text that ended a choice; a number or null there is the end of turn."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One choice, read."""

    continuation: Continuation
    names_stop: bool
    """The endpoint named the stop text, or left it in."""
    is_guess: bool
    """Whether a stop text or the end of turn ended it was not to be told."""


def choices_of(completion: Any) -> list[Any]:
    """The choices that have a message, in order."""
    return [c for c in getattr(completion, "choices", None) or [] if getattr(c, "message", None) is not None]


def read_choice(
    choice: Any, request: ContinuationRequest, seed: int, tokens: int, *, way: Continuing | None, names_stops: bool
) -> Reading:
    """The continuation in one choice.

    ``tokens``: how many were generated for it. ``names_stops``: the endpoint is known to name stop
    texts, so that one which names none ended the turn.
    """
    trusts_silence = names_stops or (way is Continuing.CONTINUE and _has_stop_field(choice))
    whole = str(choice.message.content or "")
    text, stop = cut_after_stop(whole, request.stops), StopReason.EOS
    finish = str(getattr(choice, "finish_reason", None) or "")
    names_stop = is_guess = False
    if text is not None:
        stop, names_stop = StopReason.TAG, finish == "stop" and text == whole
    elif finish == "length":
        text, stop = whole, StopReason.LENGTH
    elif finish == "content_filter":
        text, stop = whole, StopReason.ABORTED
    else:
        text = whole
        named = _named_stop(choice)
        if named in request.stops and isinstance(named, str):
            text, stop, names_stop = whole + named, StopReason.TAG, True
        elif request.stops and not trusts_silence and (likely := _likely_stop(request, whole)) is not None:
            text, stop, is_guess = whole + likely, StopReason.TAG, True
    continuation = Continuation(
        text=text if way is Continuing.CONTINUE else joined(request.prefix, text, way),
        stop=stop,
        tokens=tokens,
        logprob=_logprob(choice, len(text)),
        seed=seed,
    )
    return Reading(continuation=continuation, names_stop=names_stop, is_guess=is_guess)


def joined(prefix: str, text: str, way: Continuing | None) -> str:
    """``text`` so that it can follow ``prefix``, which the endpoint was not given to the letter.

    A repetition of it goes, white space that it ends in does not come twice, and a reply to an
    instruction is set off by a space.
    """
    if not prefix:
        return text
    repeated = prefix.strip()
    if text.lstrip().startswith(repeated):
        text = text.lstrip()[len(repeated) :]
    if prefix[-1].isspace():
        return text.lstrip()
    return f" {text}" if way is Continuing.INSTRUCT and text[:1].isalnum() else text


def cut_after_stop(text: str, stops: Sequence[str]) -> str | None:
    """``text`` up to the end of the first stop text in it, None when there is none."""
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else None


def token_counts(choices: Sequence[Any], generated: int) -> list[int]:
    """How many tokens each choice has: by its log-probabilities, else an even share of what the call generated."""
    if len(choices) == 1:
        return [generated or len(_tokens(choices[0]))]
    counts = [len(_tokens(choice)) for choice in choices]
    if all(counts):
        return counts
    share, rest = divmod(generated, max(1, len(choices)))
    return [share + (place < rest) for place in range(len(choices))]


def has_logprobs(choice: Any) -> bool:
    """Whether the choice comes with log-probabilities; an empty one needs none."""
    return bool(_tokens(choice)) or not (choice.message.content or "")


def usage_of(completion: Any, config: OpenAIEngineConfig) -> Usage | None:
    """What the endpoint counted and what that costs; None when it counted nothing."""
    counted = getattr(completion, "usage", None)
    if counted is None:
        return None
    prompt = int(getattr(counted, "prompt_tokens", 0) or 0)
    details = getattr(counted, "prompt_tokens_details", None)
    cached = min(prompt, int(getattr(details, "cached_tokens", 0) or 0))
    generated = int(getattr(counted, "completion_tokens", 0) or 0)
    dollars_per_cached = config.cached_dollars_per_million
    if dollars_per_cached is None:
        dollars_per_cached = config.prompt_dollars_per_million
    dollars = (prompt - cached) * config.prompt_dollars_per_million + cached * dollars_per_cached
    dollars += generated * config.generated_dollars_per_million
    return Usage(prompt_tokens=prompt, cached_tokens=cached, generated_tokens=generated, dollars=dollars / 1_000_000)


def option_logprobs(choice: Any, options: Sequence[str]) -> tuple[float, ...] | None:
    """The options' log-probabilities at the first word of the reply; None when none is among its alternatives.

    White space that the reply begins with counts in. An option that alone is missing gets the most
    that it can have: what the listed words leave over, and no more than the least of them.
    """
    before = 0.0
    for token in _tokens(choice):
        found = _listed_options(list(getattr(token, "top_logprobs", None) or []), options)
        if found is not None:
            return tuple(before + value for value in found)
        if str(token.token).strip():
            return None
        before += float(token.logprob)
    return None


def option_in_words(choice: Any, options: Sequence[str]) -> tuple[float, ...]:
    """0 for the option that the reply begins with and minus infinity for the others; all nan when it is none."""
    word = re.match(r"\W*(\w+)", str(choice.message.content or ""))
    said = [option for option in options if word and word[1].casefold() == option.casefold()]
    if len(said) != 1:
        return (math.nan,) * len(options)
    return tuple(0.0 if option == said[0] else -math.inf for option in options)


def _listed_options(listed: Sequence[Any], options: Sequence[str]) -> list[float] | None:
    """The options' log-probabilities among the words listed for one place; None when none is there."""
    exact = [_share(listed, lambda word, option=option: option.startswith(word)) for option in options]
    loose = [
        _share(listed, lambda word, option=option: word.strip("\"'*. \n").casefold() == option.casefold())
        for option in options
    ]
    found = exact if all(map(math.isfinite, exact)) else [max(a, b) for a, b in zip(exact, loose, strict=True)]
    if not any(map(math.isfinite, found)):
        return None
    left = 1 - math.fsum(math.exp(one.logprob) for one in listed)
    most = min(min(one.logprob for one in listed), math.log(left) if left > 0 else -math.inf)
    return [value if math.isfinite(value) else most for value in found]


def _share(listed: Sequence[Any], is_option: Any) -> float:
    """The log of the probability of all listed words that stand for an option."""
    values = [one.logprob for one in listed if str(one.token).strip() and is_option(str(one.token))]
    return math.log(math.fsum(map(math.exp, values))) if any(map(math.exp, values)) else -math.inf


def _tokens(choice: Any) -> list[Any]:
    return list(getattr(getattr(choice, "logprobs", None), "content", None) or [])


def _has_stop_field(choice: Any) -> bool:
    return any(name in (getattr(choice, "model_extra", None) or {}) for name in _STOP_FIELDS)


def _named_stop(choice: Any) -> object:
    extra = getattr(choice, "model_extra", None) or {}
    return next((extra[name] for name in _STOP_FIELDS if extra.get(name) is not None), None)


def _likely_stop(request: ContinuationRequest, text: str) -> str | None:
    """The stop text that a reply without any must have ended in, if the turn did not end before it."""
    if len(request.stops) != 1:
        return None
    [stop] = request.stops
    stage = next((stage for stage in STAGES if stage.close_tag == stop), None)
    return stop if stage is None or stage.open_tag in text else None


def _logprob(choice: Any, chars: int) -> float:
    """The sum over the tokens of the first ``chars`` characters; nan without log-probabilities."""
    tokens = _tokens(choice)
    if not tokens:
        return math.nan
    total, seen, is_cut = 0.0, 0, chars < len(str(choice.message.content or ""))
    for token in tokens:
        if is_cut and seen >= chars:
            break
        total += float(token.logprob)
        seen += len(str(token.token))
    return total
