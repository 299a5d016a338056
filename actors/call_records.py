"""A finished teacher call as it is kept: the values that the request cache's parts share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class StoredReply:
    """What a teacher answered, and what it cost."""

    text: str
    finish_reason: str
    refusal: str | None
    prompt_tokens: int
    generated_tokens: int
    dollars: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PaidTotals:
    """What the kept calls cost, all of them together."""

    calls: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    dollars: float = 0.0

    def __add__(self, other: PaidTotals) -> PaidTotals:
        return PaidTotals(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            generated_tokens=self.generated_tokens + other.generated_tokens,
            dollars=self.dollars + other.dollars,
        )


StoredCall = tuple[str, StoredReply]


class CallFiles(Protocol):
    """Where calls lie, without any waiting room before it: blocking, and called by two threads at most.

    ``find`` and ``append`` may run at the same time; neither runs twice at a time.
    """

    linger_s: float
    """How long a first call waits for others to be appended with it."""

    def find(self, keys: list[str]) -> list[StoredReply | None]:
        """The reply to each key, those that other writers have appended by now included."""
        ...

    def append(self, calls: list[StoredCall]) -> None:
        """Keep the calls; on return they survive the end of this process. All of them are kept, or none."""
        ...

    def close(self) -> None:
        """Let go of files and connections; neither ``find`` nor ``append`` runs."""
        ...


def mark_of(key: str) -> int:
    """Eight bytes of a hash of ``key``, as a number below 2**64."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def to_json(key: str, reply: StoredReply) -> dict[str, Any]:
    """A call as a mapping of JSON values."""
    return {"key": key, **vars(reply)}


def from_json(raw: Any) -> StoredCall:
    """The inverse of ``to_json``; raises KeyError, TypeError or ValueError for anything else."""
    reply = StoredReply(
        text=str(raw["text"]),
        finish_reason=str(raw["finish_reason"]),
        refusal=None if raw["refusal"] is None else str(raw["refusal"]),
        prompt_tokens=int(raw["prompt_tokens"]),
        generated_tokens=int(raw["generated_tokens"]),
        dollars=float(raw["dollars"]),
        seconds=float(raw["seconds"]),
    )
    return str(raw["key"]), reply


def totals_of(reply: StoredReply) -> PaidTotals:
    """What one call cost."""
    return PaidTotals(
        calls=1,
        prompt_tokens=reply.prompt_tokens,
        generated_tokens=reply.generated_tokens,
        dollars=reply.dollars,
    )
