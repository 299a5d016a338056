"""Public fakes: engines that say what a script says. For tests, here and in projects that build on this one.

They behave as the Protocols promise: stop texts end a text and are kept, token limits hold, replies
come in order. A token is a run of non-space characters with the white space before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from reasoning.errors import EngineError
from reasoning.ledger import Usage
from reasoning.prompts import RATING_OPTIONS
from reasoning.protocols import (
    ChoiceReply,
    ChoiceRequest,
    Continuation,
    ContinuationReply,
    ContinuationRequest,
    RewardReply,
    RewardRequest,
    StopReason,
)

Writer = Callable[[ContinuationRequest, int], str | Continuation | None]
"""What is written for the request's n-th seed: all of it, as if nothing stopped it; or the very
``Continuation``; None for one that the engine gives up on."""
Preference = Callable[[str, str], float]
"""The log-odds that the first of two texts is better."""
Rate = Callable[[str], float]
"""The log-odds that a text is right; for a reward model its score."""

_TOKEN = re.compile(r"\s*\S+|\s+$")
_RATING_FORMS = (
    re.compile(r"(?s).*\nRate [^\n]*\n(?P<text>.*)"),
    re.compile(r"(?s).*\n### Response\n(?P<text>.*)\n\n### Output\n.*"),
)
_PAIR_FORMS = (
    re.compile(r"(?s).*?\nJudge [^\n]*\n(?:(?P<common>.*)\n)?1: (?P<first>.*)\n2: (?P<second>.*)"),
    re.compile(r"(?s).*\n### Response 1\n(?P<first>.*)\n\n### Response 2\n(?P<second>.*)\n\n### Output\n.*"),
)


class ScriptedEngine:
    """Writes what ``write`` says, chooses by ``prefer`` and rates by ``rate``.

    ``order_bias`` is added to whatever comes first in a choice.
    ``batches`` lists every call's requests, so that a test can see what went out together. A request
    without a script for it raises EngineError.
    """

    def __init__(
        self,
        write: Writer | None = None,
        *,
        prefer: Preference | None = None,
        order_bias: float = 0.0,
        rate: Rate | None = None,
    ) -> None:
        self.batches: list[tuple[ContinuationRequest | ChoiceRequest, ...]] = []
        self._write = write
        self._prefer = prefer
        self._order_bias = order_bias
        self._rate = rate

    @property
    def written(self) -> list[ContinuationRequest]:
        """All requests to write, in order."""
        return [request for batch in self.batches for request in batch if isinstance(request, ContinuationRequest)]

    @property
    def chosen(self) -> list[ChoiceRequest]:
        """All requests to choose, in order."""
        return [request for batch in self.batches for request in batch if isinstance(request, ChoiceRequest)]

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        self.batches.append(tuple(requests))
        return [self._reply(request) for request in requests]

    async def choose(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        self.batches.append(tuple(requests))
        return [self._choice(request) for request in requests]

    def _reply(self, request: ContinuationRequest) -> ContinuationReply:
        if self._write is None:
            raise EngineError("ScriptedEngine was given nothing to write")
        continuations = tuple(
            _cut(self._write(request, index), request, seed) for index, seed in enumerate(request.seeds)
        )
        usage = Usage(
            prompt_tokens=count_tokens(request.prompt) + count_tokens(request.prefix),
            generated_tokens=sum(one.tokens for one in continuations),
            image_encodes=int(request.image is not None),
        )
        return ContinuationReply(continuations=continuations, usage=usage)

    def _choice(self, request: ChoiceRequest) -> ChoiceReply:
        odds = self._odds(request)
        tokens = count_tokens(request.prompt) + count_tokens(request.prefix)
        usage = Usage(prompt_tokens=tokens, image_encodes=int(request.image is not None))
        return ChoiceReply(logprobs=(odds - 20.0, -20.0), usage=usage)

    def _odds(self, request: ChoiceRequest) -> float:
        if request.options == RATING_OPTIONS:
            if self._rate is None:
                raise EngineError("ScriptedEngine was given no rating")
            return self._rate(rated_text(request.prompt))
        if self._prefer is None:
            raise EngineError("ScriptedEngine was given no preference")
        return self._prefer(*judged_texts(request.prompt)) + self._order_bias


class ScriptedRewarder:
    """A reward model that gives the scores of a script."""

    def __init__(self, score: Rate) -> None:
        self.batches: list[tuple[RewardRequest, ...]] = []
        self._score = score

    async def reward(self, requests: Sequence[RewardRequest]) -> list[RewardReply]:
        self.batches.append(tuple(requests))
        return [
            RewardReply(score=self._score(request.text), usage=Usage(prompt_tokens=count_tokens(request.text)))
            for request in requests
        ]


def reciting(*answers: str) -> Writer:
    """A writer that gives the n-th seed the n-th of ``answers``, in turn, from where its prefix ends.

    A prefix that is not the beginning of that answer is gone on with from any other of them that it
    begins; EngineError when it begins none.
    """

    def write(request: ContinuationRequest, index: int) -> str:
        for shift in range(len(answers)):
            answer = answers[(index + shift) % len(answers)]
            if answer.startswith(request.prefix):
                return answer[len(request.prefix) :]
        raise EngineError(f"no recited answer begins with {request.prefix!r}")

    return write


def judged_texts(prompt: str) -> tuple[str, str]:
    """The two responses that a judge prompt of either style compares; raises EngineError for other prompts.

    What both begin with is joined to the rest by one space, whatever white space stood there.
    """
    for form in _PAIR_FORMS:
        if match := form.fullmatch(prompt):
            first, second = match["first"], match["second"]
            if form is _PAIR_FORMS[1]:
                return _unquoted(first), _unquoted(second)
            common = f"{match['common']} " if match["common"] else ""
            return common + first, common + second
    raise EngineError(f"not a judge prompt: {prompt[:80]!r}")


def rated_text(prompt: str) -> str:
    """The response that a rating prompt of either style holds; raises EngineError for other prompts."""
    for form in _RATING_FORMS:
        if match := form.fullmatch(prompt):
            return match["text"] if form is _RATING_FORMS[0] else _unquoted(match["text"])
    raise EngineError(f"not a rating prompt: {prompt[:80]!r}")


def count_tokens(text: str) -> int:
    """How many tokens the scripted engine counts in ``text``."""
    return len(_TOKEN.findall(text))


def _unquoted(text: str) -> str:
    return "\n".join(line.removeprefix("> ") for line in text.split("\n"))


def _cut(scripted: str | Continuation | None, request: ContinuationRequest, seed: int) -> Continuation:
    if isinstance(scripted, Continuation):
        return scripted
    if scripted is None:
        return Continuation(text="", stop=StopReason.ABORTED, tokens=0, logprob=0.0, seed=seed)
    text, stop = scripted, StopReason.EOS
    ends = [text.index(one) + len(one) for one in request.stops if one in text]
    if ends:
        text, stop = text[: min(ends)], StopReason.TAG
    tokens = _TOKEN.findall(text)
    limit = request.sampling.max_new_tokens
    if len(tokens) > limit:
        text, stop, tokens = "".join(tokens[:limit]), StopReason.LENGTH, tokens[:limit]
    return Continuation(text=text, stop=stop, tokens=len(tokens), logprob=-0.5 * len(tokens), seed=seed)
