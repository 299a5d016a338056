"""What comes back from a teacher, and how it is read, kept and shared."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from actors.call_records import StoredReply
from actors.prices import Prices
from reasoning.ledger import Usage
from reasoning.records import RejectReason


@dataclass(frozen=True, kw_only=True)
class TeacherReply:
    """What came back. ``usage`` and ``retries`` count what this asking took."""

    text: str
    finish_reason: str
    """``stop``, ``length``, ``content_filter`` or what else the server says."""
    refusal: str | None
    usage: Usage
    """Nothing, for a reply that was kept from before."""
    retries: tuple[str, ...]
    """Why each earlier try of this call failed: ``429``, ``503``, ``timeout``, ``connection``, ``garbled``."""
    is_cached: bool = False
    """It was kept from an earlier call, or came to an equal one of this moment."""
    seconds: float = 0.0
    """What the try that was answered took, also if that was in another run."""
    first_usage: Usage | None = None
    """Of a cached reply: what it took when it was asked for."""


@dataclass(frozen=True, kw_only=True)
class CallFault:
    """A call that was not answered."""

    message: str
    retries: tuple[str, ...]
    reason: RejectReason = RejectReason.TEACHER_ERROR
    """Why the last try failed."""


def read_completion(content: bytes, prices: Prices) -> TeacherReply | str:
    """The reply in a response's body, or what is wrong with it; raises ValueError for what is no JSON.

    Servers send what they like: nothing here is taken for granted.
    """
    raw: Any = json.loads(content)
    completion = raw if isinstance(raw, dict) else {}
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        return f"no message in {str(raw)[:80]!r}"
    usage = completion.get("usage")
    prompt, generated = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return TeacherReply(
        text=str(message.get("content") or ""),
        finish_reason=str(choice.get("finish_reason") or ""),
        refusal=str(message["refusal"]) if message.get("refusal") else None,
        usage=Usage(prompt_tokens=prompt, generated_tokens=generated, dollars=prices.dollars(prompt, generated)),
        retries=(),
    )


def as_shared(outcome: TeacherReply | CallFault) -> TeacherReply | CallFault:
    """For one who asked the same at the same time: it took nothing more."""
    if isinstance(outcome, CallFault):
        return replace(outcome, retries=())
    first = outcome.first_usage or outcome.usage
    return replace(outcome, usage=Usage(), retries=(), is_cached=True, first_usage=first)


def to_store(reply: TeacherReply) -> StoredReply:
    """As the request cache keeps it."""
    return StoredReply(
        text=reply.text,
        finish_reason=reply.finish_reason,
        refusal=reply.refusal,
        prompt_tokens=reply.usage.prompt_tokens,
        generated_tokens=reply.usage.generated_tokens,
        dollars=reply.usage.dollars,
        seconds=reply.seconds,
    )


def from_store(stored: StoredReply) -> TeacherReply:
    """As one who asks gets it: it takes nothing more."""
    paid = Usage(prompt_tokens=stored.prompt_tokens, generated_tokens=stored.generated_tokens, dollars=stored.dollars)
    return TeacherReply(
        text=stored.text,
        finish_reason=stored.finish_reason,
        refusal=stored.refusal,
        usage=Usage(),
        retries=(),
        is_cached=True,
        seconds=stored.seconds,
        first_usage=paid,
    )


def _count(usage: Any, name: str) -> int:
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if isinstance(found, int) and found > 0 else 0
