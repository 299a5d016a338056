"""What a try that failed means: why, whether another may go better, and after how long."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol

from actors.governing.terms import CallEnd
from reasoning.records import RejectReason

MAX_RETRY_AFTER_S = 600.0
"""A server that asks for a longer pause than this is not waited for."""


class Patience(Protocol):
    """How failures are repeated; ``TeacherConfig`` is one."""

    @property
    def timeout_s(self) -> float: ...
    @property
    def backoff_s(self) -> float: ...
    @property
    def max_backoff_s(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A try that failed. ``wait_s`` None: a further try would fail alike."""

    reason: RejectReason
    end: CallEnd
    cause: str
    """A short word for it: ``429``, ``503``, ``timeout``, ``connection``, ``garbled``."""
    message: str
    wait_s: float | None
    is_final: bool = False
    """No call whatever can be answered."""
    is_lasting: bool = False
    """Not for this call alone: the next ones will most likely fail too."""
    may_have_cost: bool = False
    """The server may have done the work although no reply came."""
    pause_s: float | None = None
    """How long the server asks not to be asked by anyone."""


def failure_of(error: BaseException, tries: int, patience: Patience) -> Failure:
    """What ``error``, raised by a call after ``tries`` earlier ones, means."""
    import aiohttp
    import openai

    causes = _causes(error)
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, tries, patience)
    if any(isinstance(one, aiohttp.ClientPayloadError) for one in causes):
        return garbled("the body ended early", tries, patience)
    if any(isinstance(one, aiohttp.ClientConnectorError) for one in causes):
        return _connection(causes, tries, patience, may_have_cost=False)
    if any(isinstance(one, TimeoutError) for one in causes):
        return Failure(
            reason=RejectReason.TIMEOUT,
            end=CallEnd.TIMEOUT,
            cause="timeout",
            message=f"no whole reply within {patience.timeout_s:g} s",
            wait_s=_backoff(tries, patience),
            is_lasting=True,
            may_have_cost=True,
        )
    # The transport passes a connection that was lost off as one that timed out.
    if any(isinstance(one, (aiohttp.ClientConnectionError, OSError)) for one in causes):
        return _connection(causes, tries, patience, may_have_cost=True)
    if isinstance(error, openai.APIConnectionError) and not any(isinstance(one, ValueError) for one in causes):
        return _connection(causes, tries, patience, may_have_cost=True)
    return garbled(f"{type(error).__name__}: {error}", tries, patience)


def garbled(message: str, tries: int, patience: Patience) -> Failure:
    """A reply that says nothing that can be read."""
    return Failure(
        reason=RejectReason.GARBLED_REPLY,
        end=CallEnd.GARBLED,
        cause="garbled",
        message=f"unreadable reply: {short(message)}",
        wait_s=_backoff(tries, patience),
        is_lasting=True,
        may_have_cost=True,
    )


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


def short(text: str) -> str:
    """One line, cut: a body can be a page of HTML, or hold the request with its image."""
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}…"


def _of_status(error: object, tries: int, patience: Patience) -> Failure:
    import openai

    assert isinstance(error, openai.APIStatusError)
    status, message = error.status_code, f"HTTP {error.status_code}: {short(str(error.message))}"
    if status in (401, 403, 404) or error.code == "insufficient_quota":
        return Failure(
            reason=RejectReason.TEACHER_ERROR,
            end=CallEnd.REFUSED,
            cause=str(status),
            message=message,
            wait_s=None,
            is_final=True,
        )
    if status not in (408, 409, 429) and status < 500:
        return Failure(
            reason=RejectReason.TEACHER_ERROR, end=CallEnd.REFUSED, cause=str(status), message=message, wait_s=None
        )
    reason, end = RejectReason.SERVER_ERROR, CallEnd.SERVER_ERROR
    if status == 429:
        reason, end = RejectReason.RATE_LIMITED, CallEnd.RATE_LIMITED
    elif status == 408:
        reason, end = RejectReason.TIMEOUT, CallEnd.TIMEOUT
    named = retry_after_s(error.response.headers, time.time())
    if named is not None and named > MAX_RETRY_AFTER_S:
        message = f"{message} (asks to wait {named:g} s)"
        return Failure(reason=reason, end=end, cause=str(status), message=message, wait_s=None, is_lasting=True)
    # A little more than what was named: all that wait for the same moment would meet again.
    wait_s = _backoff(tries, patience) if named is None else named + random.uniform(0, 0.1 + named / 10)
    return Failure(
        reason=reason, end=end, cause=str(status), message=message, wait_s=wait_s, is_lasting=True, pause_s=named
    )


def _connection(causes: list[BaseException], tries: int, patience: Patience, *, may_have_cost: bool) -> Failure:
    said = next((str(one) for one in reversed(causes) if str(one)), type(causes[-1]).__name__)
    return Failure(
        reason=RejectReason.CONNECTION_LOST,
        end=CallEnd.CONNECTION_LOST,
        cause="connection",
        message=f"connection failed: {short(said)}",
        wait_s=_backoff(tries, patience),
        is_lasting=True,
        may_have_cost=may_have_cost,
    )


def _causes(error: BaseException) -> list[BaseException]:
    """``error`` and what it came from, the innermost last."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__
    return found


def _backoff(tries: int, patience: Patience) -> float:
    return min(patience.max_backoff_s, patience.backoff_s * 2.0 ** min(tries, 32)) * random.uniform(0.5, 1.0)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value else None
