"""How the four stages are got out of a teacher: in one reply, or stage by stage.

A writer remembers what was written and how it was received, and shows the fault at the next attempt.
"""

from __future__ import annotations

from typing import Protocol

from actors.teacher import Message
from actors.verifier import Check, check_form, check_stage_reply
from pipelines.row_calls import RowCalls
from reasoning.prompts import annotation_prompt, correction_prompt, stage_annotation_prompt
from reasoning.records import Question
from reasoning.stages import STAGES, FourStages, Stage


class Writer(Protocol):
    """Gets the four stages out of a teacher, knowing what went wrong before."""

    async def write(self, calls: RowCalls) -> FourStages | Check:
        """Four stages in the right form, or what is wrong with what came."""
        ...

    def learn(self, check: Check) -> None:
        """Take note of why the last attempt was rejected."""
        ...


class OneReply:
    """All four stages in one reply."""

    def __init__(self, question: Question) -> None:
        self._prompt = annotation_prompt(question)
        self._fault = ""
        self._reply = ""

    async def write(self, calls: RowCalls) -> FourStages | Check:
        """See ``Writer.write``."""
        outcome = await calls.ask(_conversation(self._prompt, self._reply, self._fault))
        if isinstance(outcome, Check):
            return outcome
        calls.reply = self._reply = outcome.text
        return check_form(outcome.text, finish_reason=outcome.finish_reason, refusal=outcome.refusal)

    def learn(self, check: Check) -> None:
        """See ``Writer.learn``."""
        self._fault = check.detail


class StageByStage:
    """A call for each stage, shown the stages before it.

    Stages that were well written are kept: a fault in a stage's form repeats that stage alone; where the
    whole was rejected, all is written anew from the stage at fault on, or else from the reasoning on.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._written: dict[Stage, str] = {}
        self._fault = ""
        self._reply = ""

    async def write(self, calls: RowCalls) -> FourStages | Check:
        """See ``Writer.write``."""
        for stage in STAGES:
            if stage in self._written:
                continue
            prompt = stage_annotation_prompt(self._question, stage, dict(self._written))
            outcome = await calls.ask(_conversation(prompt, self._reply, self._fault))
            if isinstance(outcome, Check):
                return outcome
            calls.reply = self._reply = outcome.text
            text = check_stage_reply(outcome.text, stage, finish_reason=outcome.finish_reason, refusal=outcome.refusal)
            if isinstance(text, Check):
                return text
            self._written[stage] = text
            self._reply = self._fault = ""
        stages = FourStages.from_mapping(self._written)
        calls.reply = stages.render()
        return stages

    def learn(self, check: Check) -> None:
        """See ``Writer.learn``."""
        self._fault = check.detail
        if check.stages is None:
            return
        kept = STAGES[: STAGES.index(check.stage or Stage.REASONING)]
        self._written = {stage: self._written[stage] for stage in kept}
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
