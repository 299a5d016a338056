"""A reward model behind HTTP: any server that takes texts as JSON and gives numbers back.

Retries and pauses are those of the openai client: rate limits, server errors, time-outs and lost
connections are repeated, ``Retry-After`` is kept to. docs/rewards.md describes both forms.
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlparse

from actors.images import image_bytes
from actors.rewards.config import HttpForm, RewardConfig
from actors.rewards.joining import log_odds_of_probability
from actors.rewards.texts import reward_text
from cluster.secrets import Secret, redact
from reasoning.errors import EngineError
from reasoning.ledger import Usage
from reasoning.protocols import RewardReply, RewardRequest

if TYPE_CHECKING:
    import openai


class HttpRewarder:
    """Scores candidates by asking a server. Use it on one event loop; close it when done."""

    def __init__(self, config: RewardConfig, api_key: Secret | None) -> None:
        self._config = config
        self._api_key = api_key
        self._client = _open_client(config, api_key)
        self._slots = asyncio.Semaphore(config.max_in_flight)

    async def reward(self, requests: Sequence[RewardRequest]) -> list[RewardReply]:
        """Replies in the order of the requests; nan where the server gave null or no number.

        Raises ImageError when a picture cannot be read, EngineError when the server is lost, refuses, or
        answers with something else than a score for each text.
        """
        size = self._config.batch_size
        parts = [requests[start : start + size] for start in range(0, len(requests), size)]
        calls = [asyncio.ensure_future(self._ask(part)) for part in parts]
        try:
            replies = await asyncio.gather(*calls)
        except BaseException:
            for call in calls:
                call.cancel()
            raise
        return [reply for part in replies for reply in part]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _ask(self, requests: Sequence[RewardRequest]) -> list[RewardReply]:
        import openai

        url = str(self._config.url)
        body = await asyncio.to_thread(_body, requests, self._config)
        try:
            async with self._slots:
                answer = await self._client.post(url, cast_to=cast("type[Any]", object), body=body)
        except (openai.APIError, ValueError) as error:
            told = " ".join([type(error).__name__ + ":", str(error), str(getattr(error, "body", None) or "")])
            said = redact(_short(told), [self._api_key])
            raise EngineError(f"the reward model at {url} gave no scores: {said}") from None
        try:
            return read_replies(answer, len(requests), self._config)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise EngineError(
                f"the reward model at {url} answered in no form known ({type(error).__name__}: {error}): "
                f"{_short(repr(answer))}; docs/rewards.md has both forms"
            ) from None


def read_replies(answer: Any, count: int, config: RewardConfig) -> list[RewardReply]:
    """The server's answer as replies; raises KeyError, TypeError, ValueError or IndexError for any other form."""
    match config.form:
        case HttpForm.STAGEBEAM:
            scores = [_number(value) for value in answer["scores"]]
            tokens = [int(value) for value in answer.get("tokens") or [0] * count]
        case HttpForm.CLASSIFY:
            ranked = sorted(answer["data"], key=lambda one: int(one.get("index", 0)))
            scores = [_score_of_probabilities(one["probs"], config) for one in ranked]
            tokens = _shared_out(int((answer.get("usage") or {}).get("prompt_tokens") or 0), count)
    if len(scores) != count or len(tokens) != count:
        raise ValueError(f"{len(scores)} scores and {len(tokens)} token counts for {count} texts")
    return [
        RewardReply(score=score, usage=Usage(prompt_tokens=used)) for score, used in zip(scores, tokens, strict=True)
    ]


def _body(requests: Sequence[RewardRequest], config: RewardConfig) -> dict[str, Any]:
    named = {"model": config.model} if config.model else {}
    match config.form:
        case HttpForm.STAGEBEAM:
            return {**named, "inputs": [_input(request, with_image=config.with_image) for request in requests]}
        case HttpForm.CLASSIFY:
            texts = [reward_text(request) for request in requests]
            return {**named, "input": [f"{text.question}\n\n{text.answer}" for text in texts]}


def _input(request: RewardRequest, *, with_image: bool) -> dict[str, Any]:
    question = request.question
    image = question.image if with_image else None
    shown = {}
    if image is not None:
        shown["image"] = f"data:{image.media_type};base64,{base64.b64encode(image_bytes(image)).decode('ascii')}"
    return {
        "question": question.question,
        "choices": list(question.choices),
        "hint": question.hint,
        **shown,
        "stage": request.stage.value if request.stage else None,
        "prior": {stage.value: text for stage, text in request.prior.items()},
        "text": request.text,
    }


def _score_of_probabilities(probabilities: Sequence[float], config: RewardConfig) -> float:
    """One class: the number as it comes. Several: the log-odds of ``label``, by number, or of the last."""
    label = config.label if isinstance(config.label, int) else -1
    score = _number(probabilities[label])
    return score if len(probabilities) == 1 or math.isnan(score) else log_odds_of_probability(score)


def _number(value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _shared_out(total: int, count: int) -> list[int]:
    """A sum for all texts as counts that add up to it."""
    return [total // count + (place < total % count) for place in range(count)]


def _open_client(config: RewardConfig, api_key: Secret | None) -> openai.AsyncOpenAI:
    import openai

    host = urlparse(str(config.url)).hostname or ""
    is_loopback = host in ("localhost", "::1") or host.startswith("127.")
    return openai.AsyncOpenAI(
        base_url=str(config.url),
        api_key=api_key.reveal() if api_key else "none",
        max_retries=config.max_retries,
        timeout=config.timeout_s,
        # A proxy named in the environment cannot reach a loopback address.
        http_client=openai.DefaultAsyncHttpxClient(trust_env=not is_loopback),
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}…"
