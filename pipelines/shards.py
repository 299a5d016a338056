"""The annotation actor: a block of questions in, a committed shard out.

A shard's name is a hash of its rows' ids. So a block that Ray gives out a second time, because a
worker died after its commit, is found committed and is not done again. Runs on Ray workers; needs
no Ray itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from actors.teacher import Teacher, TeacherConfig
from cluster.logs import get_logger
from cluster.process import keep_what_is_loaded
from cluster.secrets import Secret
from cluster.storage import Commit, find_commit, write_commit
from pipelines.annotator import AnnotationMode, Annotator, Draft
from pipelines.schemas import ANNOTATED_SCHEMA, question_from_row, question_to_row, write_rows
from reasoning.errors import InputError, StagebeamError
from reasoning.ledger import Usage
from reasoning.prompts import PROMPT_VERSION
from reasoning.records import RejectReason

ACCEPTED = "accepted"
REJECTED = "rejected"
_STATUS_SCHEMA = pa.schema([("shard", pa.string()), ("counts", pa.string()), ("failure", pa.string())])
"""``counts`` is a JSON object; ``failure`` is ``<error class>: <message>`` of what ends the run, else empty."""


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """What an annotation actor needs to know."""

    teacher: TeacherConfig
    api_key: Secret | None
    mode: AnnotationMode
    max_attempts: int
    with_flaws: bool
    output: str
    lease: str
    config_hash: str


class AnnotateShards:
    """Callable for Ray Data's ``map_batches``: a table of questions to one row about the committed shard."""

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._output = Path(job.output)
        self._annotator = Annotator(
            Teacher(job.teacher, job.api_key),
            mode=job.mode,
            max_attempts=job.max_attempts,
            with_flaws=job.with_flaws,
        )
        keep_what_is_loaded()

    async def __call__(self, table: pa.Table) -> pa.Table:
        """Annotate, commit, answer with the shard's name and counts, or with what ends the run.

        An error of ours goes back as a value: Ray would hand on its text but not the error.
        """
        rows = table.to_pylist()
        if not rows:
            return _STATUS_SCHEMA.empty_table()
        key = shard_key([row["id"] for row in rows])
        status = {"shard": key, "counts": "{}", "failure": ""}
        try:
            commit = await self._committed(key, rows)
            status["counts"] = json.dumps(commit.counts)
        except StagebeamError as error:
            status["failure"] = f"{type(error).__name__}: {error}"
        return pa.Table.from_pylist([status], schema=_STATUS_SCHEMA)

    async def _committed(self, key: str, rows: Sequence[Mapping[str, Any]]) -> Commit:
        found = find_commit(self._output, key)
        if found is not None:
            return found
        done = await asyncio.gather(*(self._annotated(row) for row in rows))
        return await asyncio.to_thread(commit_shard, self._output, key, done, lease=self._job.lease)

    async def _annotated(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with its annotation columns; a row that cannot be handled is rejected, not raised."""
        try:
            question = question_from_row(row)
        except InputError as error:
            return self._with_columns(_kept_columns(row), _failed(str(error)))
        columns = question_to_row(question)
        try:
            return self._with_columns(columns, await self._annotator.annotate(question))
        except StagebeamError:
            raise
        except Exception as error:  # noqa: BLE001  a row that trips a fault of ours must not end the others
            get_logger(__name__).warning("row failed", id=question.id, exc_info=True)
            return self._with_columns(columns, _failed(f"{type(error).__name__}: {error}"))

    def _with_columns(self, columns: dict[str, Any], draft: Draft) -> dict[str, Any]:
        return {
            **columns,
            **(
                {stage.value.lower(): text for stage, text in draft.stages.as_mapping().items()} if draft.stages else {}
            ),
            "is_accepted": draft.reason is None,
            "reason": draft.reason.value if draft.reason else None,
            "detail": draft.detail,
            "reply": draft.reply,
            "teacher": self._job.teacher.model,
            "prompt_version": PROMPT_VERSION,
            "attempts": draft.attempts,
            "attempt_faults": list(draft.attempt_faults),
            "call_retries": len(draft.call_retries),
            "calls": draft.calls,
            "prompt_tokens": draft.usage.prompt_tokens,
            "generated_tokens": draft.usage.generated_tokens,
            "dollars": draft.usage.dollars,
            "seconds": draft.seconds,
            "config_hash": self._job.config_hash,
            "flawed_reply": draft.flawed_reply,
        }


def shard_key(ids: Sequence[str]) -> str:
    """The shard's name: a hash of its ids, whatever their order."""
    return hashlib.sha256("\x1f".join(sorted(ids)).encode()).hexdigest()[:20]


def commit_shard(output: Path, key: str, rows: Sequence[Mapping[str, Any]], *, lease: str) -> Commit:
    """Write the accepted and the rejected rows, then the marker; raises as ``write_commit`` does."""
    files = []
    for part, is_accepted in ((ACCEPTED, True), (REJECTED, False)):
        chosen = [row for row in rows if row["is_accepted"] is is_accepted]
        if chosen:
            name = f"{part}/{key}.parquet"
            write_rows(output / name, chosen, ANNOTATED_SCHEMA)
            files.append(name)
    commit = Commit(key=key, files=tuple(files), counts=count_rows(rows))
    write_commit(output, commit, lease=lease)
    return commit


def count_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """What a shard adds to the run's totals; rejected rows also by reason, as ``rejected.<reason>``."""
    counts: dict[str, int] = {
        "rows": len(rows),
        "accepted": sum(row["is_accepted"] for row in rows),
        "repaired": sum(row["is_accepted"] and row["attempts"] > 1 for row in rows),
        "flawed": sum(row["flawed_reply"] is not None for row in rows),
        "further_attempts": sum(max(0, row["attempts"] - 1) for row in rows),
    }
    counts["nano_dollars"] = round(sum(row["dollars"] for row in rows) * 1e9)
    for name in ("call_retries", "calls", "prompt_tokens", "generated_tokens"):
        counts[name] = sum(row[name] for row in rows)
    for row in rows:
        if row["reason"] is not None:
            name = f"rejected.{row['reason']}"
            counts[name] = counts.get(name, 0) + 1
    return counts


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
