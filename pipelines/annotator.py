"""One question at a time: ask the teacher, check the reply, ask again with the fault shown.

Plain async code over a Protocol; knows neither Ray nor files. Every question ends as an
``Annotation``, accepted or with a reason; only what ends the whole run is raised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from actors.images import check_image, image_bytes
from actors.teacher import CallFault, Message, TeacherReply
from actors.verifier import Check, check_leak, check_reply, check_stage_reply, check_stages
from reasoning.errors import ImageError
from reasoning.ledger import Usage
from reasoning.prompts import (
    annotation_prompt,
    correction_prompt,
    flaw_prompt,
    stage_annotation_prompt,
    validity_prompt,
)
from reasoning.records import ImageRef, Question, RejectReason
from reasoning.stages import STAGES, FourStages, Stage
from reasoning.verdicts import parse_validity


class AnnotationMode(StrEnum):
    ONE_PROMPT = "one_prompt"
    """All four stages in one reply."""
    FOUR_PROMPTS = "four_prompts"
    """A call for each stage, for teachers too weak to keep the form of all four."""


class Asker(Protocol):
    """What ``actors.teacher.Teacher`` offers."""

    async def ask(self, messages: Sequence[Message], image: ImageRef | None = None) -> TeacherReply | CallFault:
        """See ``actors.teacher.Teacher.ask``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What became of one question."""

    stages: FourStages | None
    reason: RejectReason | None
    detail: str
    reply: str
    """The last reply as it came (in four-prompt mode of the last stage asked for)."""
    attempts: int
    attempt_faults: tuple[str, ...]
    """The reasons of the attempts that failed, in order."""
    calls: int
    call_retries: tuple[str, ...]
    """Why calls had to be repeated: ``429``, ``timeout`` and so on."""
    usage: Usage
    seconds: float
    flawed_reply: str | None = None
    """The same stages with a mistake in each, as the teacher wrote them; None: not asked for, or in vain."""


@dataclass
class _Tally:
    """Counts the calls of one question."""

    teacher: Asker
    image: ImageRef | None
    calls: int = 0
    retries: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    reply: str = ""

    async def ask(self, messages: Sequence[Message]) -> TeacherReply | Check:
        outcome = await self.teacher.ask(messages, self.image)
        self.calls += 1
        self.retries += outcome.retries
        if isinstance(outcome, CallFault):
            return Check(stages=None, reason=RejectReason.TEACHER_ERROR, detail=outcome.message)
        self.usage += outcome.usage
        return outcome


# A further attempt cannot mend these: the call was repeated already, or nothing can be compared.
_FINAL = frozenset(
    {
        RejectReason.TEACHER_ERROR,
        RejectReason.CONTENT_FILTER,
        RejectReason.UNDECIDED,
        RejectReason.IMAGE_UNUSABLE,
    }
)


class Annotator:
    """Annotates questions with one teacher; safe for many questions at a time on one event loop."""

    def __init__(
        self,
        teacher: Asker,
        *,
        mode: AnnotationMode = AnnotationMode.ONE_PROMPT,
        max_attempts: int = 3,
        with_flaws: bool = False,
    ) -> None:
        self._teacher = teacher
        self._mode = mode
        self._max_attempts = max_attempts
        self._with_flaws = with_flaws

    async def annotate(self, question: Question) -> Draft:
        """The question's annotation; raises only TeacherError, when the teacher is gone for good."""
        started = time.monotonic()
        tally = _Tally(self._teacher, None)
        try:
            tally.image = await asyncio.to_thread(_usable_picture, question.image)
        except ImageError as error:
            check = Check(stages=None, reason=RejectReason.IMAGE_UNUSABLE, detail=str(error))
            return _draft(check, tally, faults=[], started=started)
        writer = _OneReply(question) if self._mode is AnnotationMode.ONE_PROMPT else _StageByStage(question)
        faults: list[str] = []
        for _ in range(self._max_attempts):
            check = await self._attempt(question, writer, tally)
            if check.reason is None:
                break
            faults.append(check.reason.value)
            if check.reason in _FINAL:
                break
        flawed = None
        if self._with_flaws and check.reason is None and check.stages is not None:
            flawed = await self._flawed(question, check.stages, tally)
        return replace(_draft(check, tally, faults=faults, started=started), flawed_reply=flawed)

    async def _attempt(self, question: Question, writer: _Writer, tally: _Tally) -> Check:
        check = await writer.write(tally)
        if check.needs_opinion and check.stages is not None:
            check = await self._with_opinion(question, check, check.stages, tally)
        writer.learn(check)
        return check

    async def _with_opinion(self, question: Question, check: Check, stages: FourStages, tally: _Tally) -> Check:
        """Ask whether an answer in free words means the standard answer, where the rule said no."""
        text_only = _Tally(self._teacher, None)
        outcome = await text_only.ask([Message(role="user", text=validity_prompt(question, stages.conclusion))])
        tally.calls += text_only.calls
        tally.retries += text_only.retries
        tally.usage += text_only.usage
        if isinstance(outcome, Check):
            return outcome
        match parse_validity(outcome.text):
            case True:
                return check_leak(question, stages)
            case False:
                return replace(check, reason=RejectReason.JUDGED_INVALID)
            case None:
                detail = f"the validity check said neither valid nor invalid: {outcome.text[:80]!r}"
                return replace(check, reason=RejectReason.UNDECIDED, detail=detail)

    async def _flawed(self, question: Question, stages: FourStages, tally: _Tally) -> str | None:
        """A reply that cannot be used costs the row its judgements, not the row."""
        last = tally.reply
        outcome = await tally.ask([Message(role="user", text=flaw_prompt(question, stages))])
        tally.reply = last
        return None if isinstance(outcome, Check) or outcome.finish_reason == "length" else outcome.text or None


class _Writer(Protocol):
    """Gets the four stages out of the teacher, knowing what went wrong before."""

    async def write(self, tally: _Tally) -> Check: ...

    def learn(self, check: Check) -> None:
        """Take note of how the last attempt was received."""
        ...


class _OneReply:
    def __init__(self, question: Question) -> None:
        self._question = question
        self._prompt = annotation_prompt(question)
        self._fault = ""
        self._reply = ""

    async def write(self, tally: _Tally) -> Check:
        outcome = await tally.ask(_conversation(self._prompt, self._reply, self._fault))
        if isinstance(outcome, Check):
            return outcome
        tally.reply = self._reply = outcome.text
        return check_reply(self._question, outcome.text, finish_reason=outcome.finish_reason, refusal=outcome.refusal)

    def learn(self, check: Check) -> None:
        self._fault = check.detail


class _StageByStage:
    """Keeps the stages that were well written; a rejected whole is written anew from the reasoning on."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._written: dict[Stage, str] = {}
        self._fault = ""
        self._reply = ""

    async def write(self, tally: _Tally) -> Check:
        for stage in STAGES:
            if stage in self._written:
                continue
            prompt = stage_annotation_prompt(self._question, stage, dict(self._written))
            outcome = await tally.ask(_conversation(prompt, self._reply, self._fault))
            if isinstance(outcome, Check):
                return outcome
            tally.reply = self._reply = outcome.text
            text = check_stage_reply(outcome.text, stage, finish_reason=outcome.finish_reason, refusal=outcome.refusal)
            if isinstance(text, Check):
                return text
            self._written[stage] = text
            self._reply = self._fault = ""
        return check_stages(self._question, FourStages.from_mapping(self._written))

    def learn(self, check: Check) -> None:
        self._fault = check.detail
        if check.stages is not None and check.reason is not None:
            self._written = {s: self._written[s] for s in (Stage.SUMMARY, Stage.CAPTION)}
            self._reply = ""


def _conversation(prompt: str, reply: str, fault: str) -> list[Message]:
    """The prompt, and after a failed attempt the reply with its fault; a fault without a reply joins the prompt."""
    if not fault:
        return [Message(role="user", text=prompt)]
    if not reply.strip():
        return [Message(role="user", text=f"{prompt}\n\n{correction_prompt(fault)}")]
    return [
        Message(role="user", text=prompt),
        Message(role="assistant", text=reply),
        Message(role="user", text=correction_prompt(fault)),
    ]


def _usable_picture(image: ImageRef | None) -> ImageRef | None:
    """The picture by its bytes, under the media type it has; what is behind http is the server's to fetch.

    Raises ImageError for a picture that no teacher could read.
    """
    if image is None or (image.uri or "").startswith(("http://", "https://", "data:")):
        return image
    data = image_bytes(image)
    return ImageRef(data=data, media_type=check_image(data))


def _draft(check: Check, tally: _Tally, *, faults: list[str], started: float) -> Draft:
    return Draft(
        stages=check.stages,
        reason=check.reason,
        detail=check.detail,
        reply=tally.reply,
        attempts=len(faults) + (check.reason is None),
        attempt_faults=tuple(faults),
        calls=tally.calls,
        call_retries=tuple(tally.retries),
        usage=tally.usage,
        seconds=time.monotonic() - started,
    )
