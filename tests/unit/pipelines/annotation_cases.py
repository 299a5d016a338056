"""A question with its right answer, and a teacher that says what a test scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from actors.teacher import CallFault, Message, TeacherReply
from cluster.storage import RunFolder
from pipelines.schemas import question_to_row
from pipelines.shard_files import commit_shard
from pipelines.sources.parquet import shard_key
from reasoning.ledger import Usage
from reasoning.records import AnswerType, ImageRef, Question
from reasoning.stages import FourStages

QUESTION = Question(id="q", question="How many cubes are there?", answer="2", answer_type=AnswerType.NUMBER)
GOOD = FourStages(summary="Count the cubes.", caption="Two red cubes.", reasoning="One, two.", conclusion="2")
FLAWED = FourStages(summary="Count the balls.", caption="Two red balls.", reasoning="One, two, three.", conclusion="3")


def said(
    text: str, *, finish_reason: str = "stop", refusal: str | None = None, is_cached: bool = False
) -> TeacherReply:
    usage = Usage(prompt_tokens=10, generated_tokens=5, dollars=0.5)
    return TeacherReply(
        text=text,
        finish_reason=finish_reason,
        refusal=refusal,
        usage=Usage() if is_cached else usage,
        retries=(),
        is_cached=is_cached,
        seconds=0.25,
        first_usage=usage if is_cached else None,
    )


class ScriptedTeacher:
    """Gives the scripted replies in turn and keeps what it was asked."""

    def __init__(
        self, *replies: TeacherReply | CallFault | Exception, prepare: Callable[[ImageRef], ImageRef] | None = None
    ) -> None:
        """``prepare`` as ``Teacher.prepare``; none: pictures are taken as they are."""
        self._replies = list(replies)
        self._prepare = prepare
        self.asked: list[list[Message]] = []
        self.images: list[ImageRef | None] = []
        self.samples: list[int] = []

    async def ask(
        self, messages: Sequence[Message], image: ImageRef | None = None, *, sample: int = 0
    ) -> TeacherReply | CallFault:
        self.asked.append(list(messages))
        self.images.append(image)
        self.samples.append(sample)
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def prepare(self, image: ImageRef) -> ImageRef:
        return image if self._prepare is None else self._prepare(image)


def accepted_row(question: Question, stages: FourStages = GOOD, flawed_reply: str | None = None) -> dict[str, Any]:
    """A row as the annotation run writes it."""
    return {
        **question_to_row(question),
        **{stage.value.lower(): text for stage, text in stages.as_mapping().items()},
        "is_accepted": True,
        "reason": None,
        "detail": "",
        "checks": [],
        "reply": stages.render(),
        "teacher": "t",
        "prompt_version": "v",
        "generation": 0,
        "attempts": 1,
        "attempt_faults": [],
        "attempt_details": [],
        "call_retries": 0,
        "calls": 1,
        "cached_calls": 0,
        "call_seconds": [0.5],
        "prompt_tokens": 1,
        "generated_tokens": 1,
        "dollars": 0.0,
        "seconds": 0.0,
        "config_hash": "c",
        "flawed_reply": flawed_reply,
    }


def annotation_run(folder: Path, *shards: list[dict[str, Any]]) -> Path:
    """A finished annotation run with these shards of rows."""
    with RunFolder(folder, kind="annotate", identity={"input": "x"}) as run:
        for rows in shards:
            commit_shard(run.store, shard_key([row["id"] for row in rows]), rows, lease=run.lease)
    return folder
