"""The annotation actor: a shard of questions in, a committed shard out.

A shard's name is a hash of its rows' ids. So a shard that Ray gives out a second time, because a
worker died after its commit, is found committed and is not done again; and of one that was half
done the finished calls lie in the request cache. Runs on Ray workers; needs no Ray itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from actors.governor import GovernedPace
from actors.request_cache import open_call_store
from actors.teacher import Teacher, TeacherConfig
from cluster.logs import get_logger
from cluster.process import keep_what_is_loaded
from cluster.secrets import Secret
from cluster.storage import Commit, find_commit
from cluster.stores import open_store
from pipelines.annotator import AnnotationMode, Annotator, Draft
from pipelines.schemas import ANNOTATED_SCHEMA, question_from_row, question_to_row
from pipelines.shard_attempts import GIVEN_UP_AFTER, ShardAttempts
from pipelines.shard_files import commit_shard, read_commit_rows
from pipelines.sources.parquet import QuestionShard, read_shard
from pipelines.verification import VerifyConfig
from reasoning.errors import InputError, StagebeamError
from reasoning.ledger import Usage
from reasoning.prompts import PROMPT_VERSION
from reasoning.records import RejectReason

_STATUS = ("index", "counts", "failure")
"""Columns of an answer: the shard's number, its counts as a JSON object, and what ends the run, as
``<error class>: <message>``, else empty."""


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """What an annotation actor needs to know."""

    questions: str
    """Where the question files are."""
    output: str
    calls: str
    """Where finished calls are kept."""
    lease: str
    config_hash: str
    teacher: TeacherConfig
    api_key: Secret | None
    governor: Any
    """The handle of the governor's actor."""
    mode: AnnotationMode
    verify: VerifyConfig
    max_attempts: int
    with_flaws: bool


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Rows of a committed shard to do again: those rejected for one of ``reasons``."""

    commit: Commit
    reasons: frozenset[RejectReason]
    generation: int

    @property
    def rows(self) -> int:
        """How many rows are to be done over."""
        return sum(self.commit.counts.get(f"rejected.{reason.value}", 0) for reason in self.reasons)

    @property
    def key(self) -> str:
        """The name of the shard that will stand in for the old one."""
        text = f"{self.commit.key}\x1f{self.generation}\x1f{','.join(sorted(self.reasons))}"
        return hashlib.sha256(text.encode()).hexdigest()[:20]


ShardTask = QuestionShard | Replay


class AnnotateShards:
    """Callable for Ray Data's ``map_batches``: a shard's description to one row about the committed shard."""

    def __init__(self, job: ShardJob, tasks: Any) -> None:
        """``tasks`` is a reference to the list of all shards' descriptions, in Ray's object store."""
        import ray

        self._job = job
        self._tasks: Sequence[ShardTask] = ray.get(tasks)
        self._questions = open_store(job.questions)
        self._output = open_store(job.output)
        self._pace = GovernedPace(job.governor)
        calls = open_call_store(job.calls, writer=uuid.uuid4().hex[:12])
        self._annotator = Annotator(
            Teacher(job.teacher, job.api_key, pace=self._pace, calls=calls),
            mode=job.mode,
            verify=job.verify,
            max_attempts=job.max_attempts,
            with_flaws=job.with_flaws,
        )
        keep_what_is_loaded()

    async def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Annotate, commit, answer with the shard's name and counts, or with what ends the run.

        An error of ours goes back as a value: Ray would hand on its text but not the error.
        """
        found: list[dict[str, Any]] = []
        for index in batch["item"]:
            task = self._tasks[int(index)]
            status: dict[str, Any] = {"index": int(index), "counts": "{}", "failure": ""}
            try:
                commit = await self._committed(task)
                status["counts"] = json.dumps(commit.counts)
            except StagebeamError as error:
                status["failure"] = f"{type(error).__name__}: {error}"
            found.append(status)
        return {name: np.array([status[name] for status in found]) for name in _STATUS}

    async def _committed(self, task: ShardTask) -> Commit:
        found = await asyncio.to_thread(find_commit, self._job.output, task.key)
        if found is not None:
            return found
        self._pace.check()
        attempts = ShardAttempts(self._output, task.key)
        await asyncio.to_thread(attempts.begin)
        try:
            commit = await self._attempted(task, attempts)
        except BaseException:
            await asyncio.to_thread(attempts.call_off)
            raise
        await asyncio.to_thread(attempts.end)
        return commit

    async def _attempted(self, task: ShardTask, attempts: ShardAttempts) -> Commit:
        match task:
            case QuestionShard():
                rows = await asyncio.to_thread(read_shard, self._questions, task)
                done = await self._all_annotated(rows, attempts, generation=0)
                return await asyncio.to_thread(commit_shard, self._output, task.key, done, lease=self._job.lease)
            case Replay():
                return await self._replayed(task, attempts)

    async def _replayed(self, task: Replay, attempts: ShardAttempts) -> Commit:
        rows = await asyncio.to_thread(read_commit_rows, self._output, task.commit)
        kept = [row for row in rows if row["reason"] not in task.reasons]
        again = [row for row in rows if row["reason"] in task.reasons]
        done = await self._all_annotated(again, attempts, generation=task.generation)
        return await asyncio.to_thread(
            commit_shard,
            self._output,
            task.key,
            kept + done,
            lease=self._job.lease,
            supersedes=(task.commit.key,),
            generation=task.generation,
        )

    async def _all_annotated(
        self, rows: Sequence[Mapping[str, Any]], attempts: ShardAttempts, *, generation: int
    ) -> list[dict[str, Any]]:
        """All rows; when one ends the run, only after the others' open calls are answered and kept."""
        if attempts.is_careful:
            return [await self._carefully_annotated(row, attempts, generation) for row in rows]
        found = await asyncio.gather(*(self._annotated(row, generation) for row in rows), return_exceptions=True)
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in found if not isinstance(outcome, BaseException)]

    async def _carefully_annotated(
        self, row: Mapping[str, Any], attempts: ShardAttempts, generation: int
    ) -> dict[str, Any]:
        """The row by itself, because some row of its shard ends its worker; one that did so before is given up."""
        name = str(row.get("id"))
        deaths = attempts.deaths_with(name)
        if deaths >= GIVEN_UP_AFTER:
            detail = f"its worker died {deaths} times with this row alone in hand"
            return self._with_columns(_kept_columns(row), _failed(detail), generation)
        mark = await asyncio.to_thread(attempts.take, name)
        try:
            return await self._annotated(row, generation)
        finally:
            await asyncio.to_thread(attempts.put_down, mark)

    async def _annotated(self, row: Mapping[str, Any], generation: int) -> dict[str, Any]:
        """The row with its annotation columns; a row that cannot be handled is rejected, not raised."""
        try:
            question = question_from_row(row)
        except InputError as error:
            return self._with_columns(_kept_columns(row), _failed(str(error)), generation)
        columns = question_to_row(question)
        try:
            draft = await self._annotator.annotate(question, generation=generation)
        except StagebeamError:
            raise
        except Exception as error:  # noqa: BLE001  a row that trips a fault of ours must not end the others
            get_logger(__name__).warning("row failed", id=question.id, exc_info=True)
            draft = _failed(f"{type(error).__name__}: {error}")
        return self._with_columns(columns, draft, generation)

    def _with_columns(self, columns: dict[str, Any], draft: Draft, generation: int) -> dict[str, Any]:
        stages = draft.stages.as_mapping() if draft.stages else {}
        return {
            **columns,
            **{stage.value.lower(): text for stage, text in stages.items()},
            "is_accepted": draft.reason is None,
            "reason": draft.reason.value if draft.reason else None,
            "detail": draft.detail,
            "checks": list(draft.checks),
            "reply": draft.reply,
            "teacher": self._job.teacher.model,
            "prompt_version": PROMPT_VERSION,
            "generation": generation,
            "attempts": draft.attempts,
            "attempt_faults": list(draft.attempt_faults),
            "attempt_details": list(draft.attempt_details),
            "attempt_replies": list(draft.attempt_replies),
            "call_retries": len(draft.call_retries),
            "calls": draft.calls,
            "cached_calls": draft.cached_calls,
            "call_seconds": list(draft.call_seconds),
            "prompt_tokens": draft.usage.prompt_tokens,
            "generated_tokens": draft.usage.generated_tokens,
            "dollars": draft.usage.dollars,
            "seconds": draft.seconds,
            "config_hash": self._job.config_hash,
            "flawed_reply": draft.flawed_reply,
        }


def _failed(detail: str) -> Draft:
    return Draft(
        stages=None,
        reason=RejectReason.ROW_ERROR,
        detail=detail,
        reply="",
        attempts=0,
        attempt_faults=(),
        calls=0,
        call_retries=(),
        usage=Usage(),
        seconds=0.0,
    )


def _kept_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a row that is no question: what can be kept as it is."""
    kept: dict[str, Any] = {}
    for name, value in row.items():
        index = ANNOTATED_SCHEMA.get_field_index(name)
        if index < 0:
            continue
        try:
            pa.array([value], type=ANNOTATED_SCHEMA.field(index).type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            continue
        kept[name] = value
    return kept
