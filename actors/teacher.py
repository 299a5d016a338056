"""The teacher: an OpenAI-compatible chat endpoint, asked with patience.

Retries what may pass (rate limits, server errors, timeouts) and counts it; a call that cannot be
answered is a value, not an exception. Only what no further call can mend (a refused key, an
unknown model, a server that is gone) is raised, as TeacherError. Knows nothing of stages.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from pydantic import BaseModel, ConfigDict, Field

from actors.endpoint import is_loopback, open_client
from actors.images import image_bytes
from cluster.secrets import Secret, redact
from reasoning.errors import TeacherError
from reasoning.ledger import Usage
from reasoning.records import ImageRef

if TYPE_CHECKING:
    import openai

MAX_RETRY_AFTER_S = 600.0
"""A server that asks for a longer pause than this is not waited for."""


class TeacherConfig(BaseModel):
    """Where the teacher is and how hard it may be asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    base_url: str
    """The endpoint up to and with ``/v1``."""
    model: str
    """The model's name there."""
    api_key_env: str | None = None
    """The environment variable that holds the key; none for servers that ask for none."""
    max_in_flight: int = Field(default=32, ge=1)
    """Calls an annotation actor has open at a time."""
    timeout_s: float = Field(default=120.0, gt=0)
    """How long one call may take."""
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
    prompt_dollars_per_million: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens."""
    generated_dollars_per_million: float = Field(default=0.0, ge=0)
    """Price of a million generated tokens."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of what the teacher is shown."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, kw_only=True)
class TeacherReply:
    """What came back. ``usage`` and ``retries`` count this call alone."""

    text: str
    finish_reason: str
    """``stop``, ``length``, ``content_filter`` or what else the server says."""
    refusal: str | None
    usage: Usage
    retries: tuple[str, ...]
    """Why each earlier try of this call failed: ``429``, ``503``, ``timeout``, ``connection``, ``garbled``."""


@dataclass(frozen=True, kw_only=True)
class CallFault:
    """A call that was not answered."""

    message: str
    retries: tuple[str, ...]


class Teacher:
    """Asks one endpoint. Use it on one event loop; close it when done."""

    def __init__(self, config: TeacherConfig, api_key: Secret | None) -> None:
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
        self._slots = asyncio.Semaphore(config.max_in_flight)
        self._unanswered_in_a_row = 0

    async def ask(self, messages: Sequence[Message], image: ImageRef | None = None) -> TeacherReply | CallFault:
        """The reply to ``messages``; ``image`` stands before the first one's text.

        Raises TeacherError when going on is pointless, ImageError when the image cannot be read.
        """
        payload = [_as_payload(message, image if i == 0 else None) for i, message in enumerate(messages)]
        async with self._slots:
            return await self._ask_until_answered(payload)

    async def close(self) -> None:
        await self._client.close()

    async def _ask_until_answered(self, payload: list[dict[str, Any]]) -> TeacherReply | CallFault:
        retries: list[str] = []
        while True:
            outcome = await self._ask_once(payload, tuple(retries))
            if isinstance(outcome, TeacherReply):
                self._unanswered_in_a_row = 0
                return outcome
            if outcome.wait_s is None or len(retries) >= self._config.max_retries:
                return self._unanswered(outcome, tuple(retries))
            retries.append(outcome.cause)
            await asyncio.sleep(outcome.wait_s)

    def _unanswered(self, failure: _Failure, retries: tuple[str, ...]) -> CallFault:
        message = redact(failure.message, [self._api_key])
        if failure.is_final:
            raise TeacherError(f"the teacher at {self._config.base_url} cannot be used: {message}")
        if failure.wait_s is not None:
            self._unanswered_in_a_row += 1
            if self._unanswered_in_a_row >= self._config.give_up_after:
                raise TeacherError(
                    f"the teacher at {self._config.base_url} left {self._unanswered_in_a_row} calls in a row "
                    f"unanswered, each tried {len(retries) + 1} times; the last: {message}. "
                    "Run again to go on from here"
                )
        return CallFault(message=message, retries=retries)

    async def _ask_once(self, payload: list[dict[str, Any]], retries: tuple[str, ...]) -> TeacherReply | _Failure:
        import openai

        options: dict[str, Any] = {"messages": payload, "max_tokens": self._config.max_tokens}
        if self._config.temperature is not None:
            options["temperature"] = self._config.temperature
        try:
            completion = await self._client.chat.completions.create(model=self._config.model, **options)
        except openai.APIError as error:
            return _failure_of(error, len(retries), self._config)
        except ValueError as error:
            # The body said JSON and was none.
            return _garbled(f"{type(error).__name__}: {error}", len(retries), self._config)
        return _read_completion(completion, retries, self._config)


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


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """The pause a response asks for, in seconds; None when it names none. ``now``: seconds since the epoch."""
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None and (value := _number(milliseconds)) is not None:
        return max(0.0, value / 1000)
    text = headers.get("retry-after")
    if text is None:
        return None
    value = _number(text)
    if value is None:
        try:
            value = parsedate_to_datetime(text).timestamp() - now
        except ValueError:
            return None
    return max(0.0, value)


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """A try that failed. ``wait_s`` None: a further try would fail alike."""

    cause: str
    message: str
    wait_s: float | None
    is_final: bool = False


def _failure_of(error: openai.APIError, tries: int, config: TeacherConfig) -> _Failure:
    import openai

    if isinstance(error, openai.APITimeoutError):
        message = f"no reply within {config.timeout_s:g} s"
        return _Failure(cause="timeout", message=message, wait_s=_backoff(tries, config))
    if isinstance(error, openai.APIConnectionError):
        message = f"connection failed: {error.__cause__ or error}"
        return _Failure(cause="connection", message=message, wait_s=_backoff(tries, config))
    if not isinstance(error, openai.APIStatusError):
        return _garbled(str(error), tries, config)
    status, message = error.status_code, f"HTTP {error.status_code}: {_short(str(error.message))}"
    if status in (401, 403, 404) or error.code == "insufficient_quota":
        return _Failure(cause=str(status), message=message, wait_s=None, is_final=True)
    if status in (408, 409, 429) or status >= 500:
        named = retry_after_s(error.response.headers, time.time())
        if named is not None and named > MAX_RETRY_AFTER_S:
            return _Failure(cause=str(status), message=f"{message} (asks to wait {named:g} s)", wait_s=None)
        # A little more than what was named: all that wait for the same moment would meet again.
        wait_s = _backoff(tries, config) if named is None else named + random.uniform(0, 0.1 + named / 10)
        return _Failure(cause=str(status), message=message, wait_s=wait_s)
    return _Failure(cause=str(status), message=message, wait_s=None)


def _garbled(message: str, tries: int, config: TeacherConfig) -> _Failure:
    return _Failure(cause="garbled", message=f"unreadable reply: {_short(message)}", wait_s=_backoff(tries, config))


def _read_completion(completion: Any, retries: tuple[str, ...], config: TeacherConfig) -> TeacherReply | _Failure:
    """Servers send what they like and the client does not check it: nothing here is taken for granted."""
    choices: list[Any] = getattr(completion, "choices", None) or [None]
    message = getattr(choices[0], "message", None)
    if message is None:
        return _garbled(f"no message in {str(completion)[:80]!r}", len(retries), config)
    usage = getattr(completion, "usage", None)
    prompt = int(getattr(usage, "prompt_tokens", 0) or 0)
    generated = int(getattr(usage, "completion_tokens", 0) or 0)
    dollars = (
        prompt * config.prompt_dollars_per_million + generated * config.generated_dollars_per_million
    ) / 1_000_000
    return TeacherReply(
        text=str(message.content or ""),
        finish_reason=str(choices[0].finish_reason or ""),
        refusal=getattr(message, "refusal", None) or None,
        usage=Usage(prompt_tokens=prompt, generated_tokens=generated, dollars=dollars),
        retries=retries,
    )


def _as_payload(message: Message, image: ImageRef | None) -> dict[str, Any]:
    if image is None:
        return {"role": message.role, "content": message.text}
    parts = [{"type": "image_url", "image_url": {"url": _image_url(image)}}, {"type": "text", "text": message.text}]
    return {"role": message.role, "content": parts}


def _image_url(image: ImageRef) -> str:
    if image.data is None and image.uri is not None and urlparse(image.uri).scheme in ("http", "https", "data"):
        return image.uri
    return f"data:{image.media_type};base64,{base64.b64encode(image_bytes(image)).decode('ascii')}"


def _backoff(tries: int, config: TeacherConfig) -> float:
    return min(config.max_backoff_s, config.backoff_s * 2.0 ** min(tries, 32)) * random.uniform(0.5, 1.0)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _short(text: str) -> str:
    """One line, cut: a body can be a page of HTML, or hold the request with its image."""
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}…"
