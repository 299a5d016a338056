"""The teacher calls of one row: each counted, and none answered twice with the same kept reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from actors.teacher import CallFault, Message, TeacherReply
from actors.verifier import Check
from reasoning.errors import ImageError
from reasoning.ledger import Usage
from reasoning.records import ImageRef, RejectReason

SAMPLES_PER_GENERATION = 1000
"""So many times a row may put one request before the numbers of its next generation begin."""


class Asker(Protocol):
    """What ``actors.teacher.Teacher`` offers."""

    async def ask(
        self, messages: Sequence[Message], image: ImageRef | None = None, *, sample: int = 0
    ) -> TeacherReply | CallFault:
        """See ``actors.teacher.Teacher.ask``."""
        ...

    def prepare(self, image: ImageRef) -> ImageRef:
        """See ``actors.teacher.Teacher.prepare``; blocking."""
        ...


@dataclass
class RowCalls:
    """Asks for one row and keeps count.

    Replies are kept by request and ``sample``. A request that the row puts again, word for word, gets
    the next sample number, so that it is answered anew; a resumed row counts alike and finds its replies.
    """

    teacher: Asker
    image: ImageRef | None = None
    generation: int = 0
    """How often the row has been done over; each time its requests are answered anew."""
    calls: int = 0
    cached_calls: int = 0
    retries: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    """What all its replies took, those from the cache when they were paid for."""
    seconds: list[float] = field(default_factory=list)
    """Of each call that was not answered from the cache."""
    reply: str = ""
    """The last reply that held stages or should have."""
    _asked: Counter[tuple[tuple[Message, ...], bool]] = field(default_factory=Counter)

    async def ask(self, messages: Sequence[Message], *, with_image: bool = True) -> TeacherReply | Check:
        """The reply, or the rejection that an unanswered call means for the row.

        Raises TeacherError and BudgetReachedError, which end the run and not the row.
        """
        request = (tuple(messages), with_image)
        sample = self.generation * SAMPLES_PER_GENERATION + self._asked[request]
        self._asked[request] += 1
        try:
            outcome = await self.teacher.ask(messages, self.image if with_image else None, sample=sample)
        except ImageError as error:
            return Check(stages=None, reason=RejectReason.IMAGE_UNUSABLE, detail=str(error))
        self.calls += 1
        self.retries += outcome.retries
        if isinstance(outcome, CallFault):
            return Check(stages=None, reason=outcome.reason, detail=outcome.message)
        # A cached reply cost nothing now; the row's cost is what it took when it was paid for.
        self.usage += outcome.first_usage or outcome.usage
        if outcome.is_cached:
            self.cached_calls += 1
        else:
            self.seconds.append(outcome.seconds)
        return outcome

    async def ask_one(self, prompt: str, *, with_image: bool = True) -> TeacherReply | Check:
        """``ask`` with a single message."""
        return await self.ask([Message(role="user", text=prompt)], with_image=with_image)
