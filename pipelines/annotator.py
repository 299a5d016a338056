"""One question at a time: ask the teacher, check the reply, ask again with the fault shown.

Plain async code over a Protocol; knows neither Ray nor files. Every question ends as a ``Draft``,
accepted or with a reason; only what ends the whole run is raised.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum

from actors.verifier import NO_ANSWER, Check, has_answer
from pipelines.row_calls import Asker, RowCalls
from pipelines.verification import Ladder, VerifyConfig
from pipelines.writers import OneReply, StageByStage, Writer
from reasoning.errors import ImageError
from reasoning.ledger import Usage
from reasoning.prompts import flaw_prompt
from reasoning.records import ImageRef, Question, RejectReason
from reasoning.stages import FourStages

SOURCE_FAULT = "source_fault"
"""The ``meta`` entry in which a data set's adapter says why a row cannot be annotated."""


class AnnotationMode(StrEnum):
    ONE_PROMPT = "one_prompt"
    """All four stages in one reply."""
    FOUR_PROMPTS = "four_prompts"
    """A call for each stage, for teachers too weak to keep the form of all four."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What became of one question."""

    stages: FourStages | None
    reason: RejectReason | None
    detail: str
    reply: str
    """The last reply as it came; in four-prompt mode of the last stage asked for, or all four put together."""
    attempts: int
    attempt_faults: tuple[str, ...]
    """The reasons of the attempts that failed, in order."""
    calls: int
    """Calls answered, from the cache or by the teacher, and calls given up."""
    call_retries: tuple[str, ...]
    """Why calls had to be repeated: ``429``, ``timeout`` and so on."""
    usage: Usage
    """What all its calls took, those from the cache when they were paid for."""
    seconds: float
    flawed_reply: str | None = None
    """The same stages with a mistake in each, as the teacher wrote them; None: not asked for, or in vain."""
    checks: tuple[str, ...] = ()
    """The rungs that the last attempt passed, in order: ``actors.verifier.Rung``."""
    attempt_details: tuple[str, ...] = ()
    """What was wrong with each attempt that failed, in order."""
    attempt_replies: tuple[str, ...] = ()
    """The reply of each attempt that failed, in order."""
    cached_calls: int = 0
    """Of ``calls`` those whose reply was kept from before."""
    call_seconds: tuple[float, ...] = ()
    """How long each call took that was answered and not from the cache."""


# A further attempt cannot mend these: the call was repeated already, or the fault is not the reply's.
_FINAL = frozenset(
    {
        RejectReason.RATE_LIMITED,
        RejectReason.SERVER_ERROR,
        RejectReason.TIMEOUT,
        RejectReason.CONNECTION_LOST,
        RejectReason.GARBLED_REPLY,
        RejectReason.TEACHER_ERROR,
        RejectReason.CONTENT_FILTER,
        RejectReason.IMAGE_UNUSABLE,
        RejectReason.NOT_RESOLVED,
    }
)


@dataclass
class _Attempts:
    """The attempts that failed, in order."""

    faults: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)

    def add(self, reason: RejectReason, detail: str, reply: str) -> None:
        self.faults.append(reason.value)
        self.details.append(detail)
        self.replies.append(reply)


class Annotator:
    """Annotates questions with one teacher; safe for many questions at a time on one event loop."""

    def __init__(
        self,
        teacher: Asker,
        *,
        mode: AnnotationMode = AnnotationMode.ONE_PROMPT,
        max_attempts: int = 3,
        with_flaws: bool = False,
        verify: VerifyConfig | None = None,
    ) -> None:
        self._teacher = teacher
        self._mode = mode
        self._max_attempts = max_attempts
        self._with_flaws = with_flaws
        self._verify = verify or VerifyConfig()

    async def annotate(self, question: Question, *, generation: int = 0) -> Draft:
        """The question's annotation; ``generation`` counts how often the row has been done over.

        Raises TeacherError when the teacher is gone for good, BudgetReachedError when no more may be spent.
        """
        started = time.monotonic()
        calls = RowCalls(self._teacher, generation=generation)
        attempts = _Attempts()
        check = refusal_to_ask(question)
        if check is None and question.image is not None:
            check = await self._take_picture(question.image, calls)
        flawed = None
        if check is None:
            check = await self._best_attempt(question, calls, attempts)
            if self._with_flaws and check.reason is None and check.stages is not None:
                flawed = await _flawed(question, check.stages, calls)
        return replace(_draft(check, calls, attempts, started), flawed_reply=flawed)

    async def _take_picture(self, image: ImageRef, calls: RowCalls) -> Check | None:
        try:
            calls.image = await asyncio.to_thread(self._teacher.prepare, image)
        except ImageError as error:
            return Check(stages=None, reason=RejectReason.IMAGE_UNUSABLE, detail=str(error))
        return None

    async def _best_attempt(self, question: Question, calls: RowCalls, attempts: _Attempts) -> Check:
        """The first attempt that is accepted, else the last."""
        writer: Writer = OneReply(question) if self._mode is AnnotationMode.ONE_PROMPT else StageByStage(question)
        ladder = Ladder(self._verify, question, calls)
        while True:
            calls.reply = ""
            written = await writer.write(calls)
            check = written if isinstance(written, Check) else await ladder.climb(written)
            if check.reason is None:
                return check
            attempts.add(check.reason, check.detail, calls.reply)
            if check.reason in _FINAL or len(attempts.faults) >= self._max_attempts:
                return check
            writer.learn(check)


async def _flawed(question: Question, stages: FourStages, calls: RowCalls) -> str | None:
    """A reply that cannot be used costs the row its judgements, not the row."""
    outcome = await calls.ask_one(flaw_prompt(question, stages))
    return None if isinstance(outcome, Check) or outcome.finish_reason == "length" else outcome.text or None


def refusal_to_ask(question: Question) -> Check | None:
    """The rejection of a question that is not worth a call: nobody could accept what came of it. None where it is."""
    if fault := question.meta.get(SOURCE_FAULT):
        return Check(stages=None, reason=RejectReason.SOURCE_FAULT, detail=fault)
    if not has_answer(question):
        return Check(stages=None, reason=RejectReason.UNDECIDED, detail=NO_ANSWER)
    return None


def _draft(check: Check, calls: RowCalls, attempts: _Attempts, started: float) -> Draft:
    return Draft(
        stages=check.stages,
        reason=check.reason,
        detail=check.detail,
        reply=calls.reply or next((reply for reply in reversed(attempts.replies) if reply), ""),
        attempts=len(attempts.faults) + (check.reason is None),
        attempt_faults=tuple(attempts.faults),
        calls=calls.calls,
        call_retries=tuple(calls.retries),
        usage=calls.usage,
        seconds=time.monotonic() - started,
        checks=tuple(rung.value for rung in check.passed),
        attempt_details=tuple(attempts.details),
        attempt_replies=tuple(attempts.replies),
        cached_calls=calls.cached_calls,
        call_seconds=tuple(calls.seconds),
    )
