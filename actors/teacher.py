"""The teacher: an OpenAI-compatible chat endpoint, asked with patience.

Retries what may pass (rate limits, server errors, timeouts) and counts it; a call that cannot be
answered is a value, not an exception. Only what no further call can mend (a refused key, an
unknown model, a server that is gone, a budget that is spent) is raised. A call that was answered
before, by whichever process, is not made again. Knows nothing of stages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from actors.endpoint import is_loopback, open_client
from actors.governing.pace import FreePace
from actors.governing.terms import CallCost, CallEnd, CallResult, Pace
from actors.images import ImagePolicy
from actors.prices import Prices, find_prices
from actors.teacher_calls import CallEstimate, Message, call_key, image_url, is_remote, prepared, request_body
from actors.teacher_faults import Failure, failure_of, garbled
from actors.teacher_replies import CallFault, TeacherReply, as_shared, from_store, read_completion, to_store
from cluster.secrets import Secret, read_secret, read_secret_file, redact
from reasoning.errors import TeacherError
from reasoning.records import ImageRef

if TYPE_CHECKING:
    from actors.request_cache import CallStore

__all__ = [
    "CallFault",
    "Message",
    "Teacher",
    "TeacherConfig",
    "TeacherReply",
    "check_teacher",
    "prices_of",
    "read_key",
]


class TeacherConfig(BaseModel):
    """Where the teacher is and how it is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    base_url: str
    """The endpoint up to and with ``/v1``."""
    model: str
    """The model's name there."""
    api_key_env: str | None = None
    """The environment variable that holds the key; none for servers that ask for none."""
    api_key_file: str | None = None
    """A file that holds the key, such as a mounted secret, instead."""
    max_in_flight: int = Field(default=32, ge=1)
    """Calls an annotation actor has open at a time, at most."""
    timeout_s: float = Field(default=120.0, gt=0)
    """How long one try of a call may take, to its last byte."""
    max_retries: int = Field(default=8, ge=0)
    """How often one call is repeated after a rate limit, a server error or a timeout."""
    backoff_s: float = Field(default=0.5, gt=0)
    """The first pause before a repeat; it doubles each time, unless the server names one."""
    max_backoff_s: float = Field(default=30.0, gt=0)
    """The longest pause that is not named by the server."""
    give_up_after: int = Field(default=20, ge=1)
    """So many calls in a row out of retries end the run: the teacher is gone, not the rows bad."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Sent with each call; none leaves it to the server."""
    max_tokens: int = Field(default=2048, ge=1)
    """The most tokens a reply may have."""
    prompt_dollars_per_million: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens; none: looked up in the list of the package genai-prices."""
    generated_dollars_per_million: float | None = Field(default=None, ge=0)
    """Price of a million generated tokens; none: looked up likewise."""
    image: ImagePolicy = ImagePolicy()
    """How pictures are sent."""

    @model_validator(mode="after")
    def _has_one_key(self) -> TeacherConfig:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError(
                f"api_key_env {self.api_key_env!r} and api_key_file {self.api_key_file!r} are both set; give one"
            )
        return self


class Teacher:
    """Asks one endpoint. Use it on one event loop; close it when done."""

    def __init__(
        self,
        config: TeacherConfig,
        api_key: Secret | None,
        *,
        pace: Pace | None = None,
        calls: CallStore | None = None,
    ) -> None:
        """``pace`` says when a call may begin; ``calls`` keeps replies. Neither is closed with the teacher."""
        self._config = config
        self._api_key = api_key
        # Retries are counted here, so they are made here.
        self._client = open_client(
            config.base_url,
            api_key,
            timeout_s=config.timeout_s,
            max_retries=0,
            max_in_flight=config.max_in_flight,
        )
        self._prices = prices_of(config)
        self._pace: Pace = pace or FreePace()
        self._calls = calls
        self._estimate = CallEstimate(self._prices, max_tokens=config.max_tokens)
        self._slots = asyncio.Semaphore(config.max_in_flight)
        self._asked: dict[str, asyncio.Future[TeacherReply | CallFault]] = {}
        self._unanswered_in_a_row = 0

    async def ask(
        self, messages: Sequence[Message], image: ImageRef | None = None, *, sample: int = 0
    ) -> TeacherReply | CallFault:
        """The reply to ``messages``; ``image`` stands before the first one's text, sent as it is (see ``prepare``).

        Equal calls with the same ``sample`` have one reply, asked for once. Raises TeacherError and
        what ``Pace.permit`` raises when going on is pointless, ImageError when the image cannot be read.
        """
        config = self._config
        call = _Call(
            messages=messages,
            has_image=image is not None,
            body=request_body(
                messages,
                None if image is None else await _url(image),
                model=config.model,
                max_tokens=config.max_tokens,
                temperature=config.temperature,
            ),
            sample=sample,
        )
        while (asked := self._asked.get(call.key)) is not None:
            await asyncio.wait([asked])
            if not asked.cancelled() and asked.exception() is None:
                return as_shared(asked.result())
        asked = self._asked[call.key] = asyncio.get_running_loop().create_future()
        try:
            outcome = await self._answer(call)
        except BaseException:
            # Those who wait for it ask for themselves.
            asked.cancel()
            raise
        else:
            asked.set_result(outcome)
            return outcome
        finally:
            del self._asked[call.key]

    def prepare(self, image: ImageRef) -> ImageRef:
        """The image as ``TeacherConfig.image`` wants it sent: once a question, on a thread. Raises ImageError."""
        return prepared(image, self._config.image)

    async def close(self) -> None:
        await self._client.close()

    async def _answer(self, call: _Call) -> TeacherReply | CallFault:
        if self._calls is None:
            return await self._ask_until_answered(call)
        stored = await self._calls.get(call.key)
        if stored is not None:
            return from_store(stored)
        outcome = await self._ask_until_answered(call)
        if isinstance(outcome, TeacherReply):
            await self._calls.put(call.key, to_store(outcome))
        return outcome

    async def _ask_until_answered(self, call: _Call) -> TeacherReply | CallFault:
        retries: list[str] = []
        while True:
            async with self._slots:
                outcome = await self._ask_when_allowed(call, tuple(retries))
            if isinstance(outcome, TeacherReply):
                self._unanswered_in_a_row = 0
                return outcome
            if outcome.wait_s is None or len(retries) >= self._config.max_retries:
                return self._unanswered(outcome, tuple(retries))
            retries.append(outcome.cause)
            await asyncio.sleep(outcome.wait_s)

    def _unanswered(self, failure: Failure, retries: tuple[str, ...]) -> CallFault:
        message = redact(failure.message, [self._api_key])
        if failure.is_final:
            raise TeacherError(f"the teacher at {self._config.base_url} cannot be used: {message}")
        if failure.is_lasting:
            self._unanswered_in_a_row += 1
            if self._unanswered_in_a_row >= self._config.give_up_after:
                raise TeacherError(
                    f"the teacher at {self._config.base_url} left {self._unanswered_in_a_row} calls in a row "
                    f"unanswered, each tried {len(retries) + 1} times; the last: {message}. "
                    "Run again to go on from here"
                )
        return CallFault(message=message, retries=retries, reason=failure.reason)

    async def _ask_when_allowed(self, call: _Call, retries: tuple[str, ...]) -> TeacherReply | Failure:
        """One try, with leave for it."""
        most = self._estimate.of(call.messages, has_image=call.has_image)
        permit = await self._pace.permit(most)
        started = time.monotonic()
        # What nobody knows the end of may have cost the most.
        result = CallResult(end=CallEnd.ABANDONED, cost=most)
        try:
            outcome = await self._ask_once(call, retries, started)
            result = _result(outcome, most)
        finally:
            self._pace.settle(permit, result)
        if isinstance(outcome, TeacherReply):
            self._estimate.learn(call.messages, outcome.usage.prompt_tokens, has_image=call.has_image)
        return outcome

    async def _ask_once(self, call: _Call, retries: tuple[str, ...], started: float) -> TeacherReply | Failure:
        import aiohttp
        import httpx2
        import openai

        try:
            # Over all: a reply that drips on for ever is none.
            async with asyncio.timeout(self._config.timeout_s):
                # Ready bytes in, bytes out: the package's own models would double the CPU time of a call.
                response = await self._client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    content=call.body,
                    options={"headers": {"Content-Type": "application/json", "X-Client-Request-Id": call.key}},
                )
            return self._read(response.content, retries, time.monotonic() - started)
        except (openai.APIError, aiohttp.ClientError, httpx2.HTTPError, OSError, ValueError) as error:
            # A ValueError: the body said JSON and was none. A TimeoutError is an OSError.
            return failure_of(error, len(retries), self._config)

    def _read(self, content: bytes, retries: tuple[str, ...], seconds: float) -> TeacherReply | Failure:
        found = read_completion(content, self._prices)
        if isinstance(found, str):
            return garbled(found, len(retries), self._config)
        return replace(found, retries=retries, seconds=seconds)


def read_key(config: TeacherConfig) -> Secret | None:
    """The teacher's key, from where the configuration says it is; raises ConfigError when it is not there."""
    if config.api_key_file is not None:
        return read_secret_file(config.api_key_file, wanted_by="teacher.api_key_file")
    return read_secret(config.api_key_env, wanted_by="teacher.api_key_env")


def prices_of(config: TeacherConfig) -> Prices:
    """What the teacher's tokens cost."""
    return find_prices(
        config.base_url,
        config.model,
        prompt=config.prompt_dollars_per_million,
        generated=config.generated_dollars_per_million,
    )


def check_teacher(config: TeacherConfig, api_key: Secret | None) -> None:
    """Ask the endpoint for its models once, so that a wrong address or key ends a run before it begins.

    Raises TeacherError. A server that has no list of models passes.
    """
    import openai

    client = openai.OpenAI(
        base_url=config.base_url,
        api_key=api_key.reveal() if api_key else "none",
        max_retries=2,
        timeout=min(10.0, config.timeout_s),
        http_client=openai.DefaultHttpxClient(trust_env=not is_loopback(config.base_url)),
    )
    with client:
        try:
            client.models.list()
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            said = redact(str(error), [api_key])
            raise TeacherError(f"the teacher at {config.base_url} refused the key: {said}") from None
        except openai.APIConnectionError as error:
            raise TeacherError(f"no teacher answers at {config.base_url}: {error.__cause__ or error}") from error
        except (openai.APIError, ValueError):
            return  # It answers; whether it has a list of models is its own affair.


@dataclass(frozen=True)
class _Call:
    """One call, whatever number of tries it takes."""

    messages: Sequence[Message]
    has_image: bool
    body: bytes
    sample: int
    key: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", call_key(self.body, self.sample))


def _result(outcome: TeacherReply | Failure, most: CallCost) -> CallResult:
    if isinstance(outcome, TeacherReply):
        usage = outcome.usage
        # A server that counts nothing leaves the most that it can have been.
        tokens = usage.prompt_tokens + usage.generated_tokens
        cost = CallCost(tokens=tokens, dollars=usage.dollars) if tokens else most
        return CallResult(end=CallEnd.ANSWERED, seconds=outcome.seconds, cost=cost)
    cost = most if outcome.may_have_cost else CallCost()
    return CallResult(end=outcome.end, cost=cost, pause_s=outcome.pause_s)


async def _url(image: ImageRef) -> str:
    if image.data is None and not is_remote(image):
        return await asyncio.to_thread(image_url, image)
    return image_url(image)
