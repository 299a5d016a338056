"""What an endpoint can do, as far as it has shown, and what is done instead.

Endpoints differ and do not say how. What one lacks is learned from its replies and refusals, said
once in the log, and told with every reply from then on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from actors.engines.config import Continuing, OpenAIEngineConfig
from cluster.logs import get_logger

_log = get_logger(__name__)

TOP_LOGPROBS = 20
"""The most alternatives that OpenAI and vLLM give by default."""
_FEWER_TOP_LOGPROBS = 5
_SEVERAL = 4
"""Stop texts that every endpoint takes."""
_N = re.compile(r"(?<![\\\w])n\b|best_of|\bchoices?\b")
_TURN = re.compile(r"continue_final_message|add_generation_prompt|prefill|assistant|last message|final message")

NOTES = {
    "continuation": "the endpoint cannot go on with a text that was begun; what follows is asked for in the user turn",
    "choices": "the endpoint gives one candidate a call; each was a call of its own",
    "logprobs": "the endpoint gives no log-probabilities; nothing is ranked by likelihood, judgements are one word",
    "seed": "the endpoint takes no seed; another run may give other texts",
    "stop": "the endpoint does not say whether a stop text or the end of turn came; an open stage counts as closed",
    "options": "none of the options was among the most probable words of a judgement, which counts as unreadable",
    "usage": "the endpoint counts no tokens; the ledger has none of its calls",
}


class Abilities:
    """What one engine has learned of its endpoint. ``continuation`` is None until it is known."""

    def __init__(self, config: OpenAIEngineConfig) -> None:
        self.continuation: Continuing | None = None
        self.logprobs = config.logprobs
        self.top_logprobs = TOP_LOGPROBS
        self.choices = config.max_choices
        self.seed = True
        self.token_field = "max_tokens"
        self.names_stops = False
        """Whether a reply has named the stop text that ended it."""
        self.most_stops: int | None = None
        self._where = {"base_url": config.base_url, "model": config.model}
        self._said: dict[str, str] = {}
        if config.continuation is not Continuing.AUTO:
            self.set_continuation(config.continuation)

    @property
    def notes(self) -> tuple[str, ...]:
        """What has been lacking so far."""
        return tuple(self._said.values())

    def set_continuation(self, way: Continuing) -> None:
        """Settle how texts are gone on with."""
        self.continuation = way
        if way is Continuing.INSTRUCT:
            self.lack("continuation")

    def lack(self, what: str) -> None:
        """Remember and, the first time, log what of ``NOTES`` is missing."""
        if what in self._said:
            return
        self._said[what] = NOTES[what]
        match what:
            case "choices":
                self.choices = 1
            case "logprobs":
                self.logprobs = False
            case "seed":
                self.seed = False
        _log.warning("endpoint_lacks", what=what, instead=NOTES[what], **self._where)

    def learn(self, refusal: str, body: Mapping[str, Any]) -> bool:
        """Whether ``refusal`` names something in ``body`` that can be left out; it will be, from now on."""
        said = refusal.casefold()
        if body.get("top_logprobs", 0) > _FEWER_TOP_LOGPROBS and "top_logprobs" in said:
            self.top_logprobs = _FEWER_TOP_LOGPROBS
        elif body.get("logprobs") and "logprob" in said:
            self.lack("logprobs")
        elif "seed" in body and "seed" in said:
            self.lack("seed")
        elif "max_tokens" in body and "max_completion_tokens" in said:
            self.token_field = "max_completion_tokens"
        elif len(body.get("stop", ())) > _SEVERAL and "stop" in said:
            self.most_stops = _SEVERAL
        elif body["messages"][-1]["role"] == "assistant" and _TURN.search(said):
            self.set_continuation(Continuing.INSTRUCT)
        elif "n" in body and _N.search(said):
            self.lack("choices")
        else:
            return False
        return True
