"""The annotation job: question shards in, accepted and rejected rows out, each with its reason.

Ray Data reads the questions in small blocks; an async actor annotates a block and commits it as
one shard, accepted rows, rejected rows, then a marker, each file whole or not at all. What is
committed is never done again: a run that was interrupted, however hard, goes on with the rest. No
row is ever dropped. The images stay with the workers; the driver sees ids and counts.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from actors.teacher import TeacherConfig, check_teacher
from cluster.connect import prepare_environment, ray_session, require_cpus
from cluster.logs import get_logger
from cluster.secrets import Secret, read_secret
from cluster.storage import RunFolder, read_commits, read_run
from pipelines.annotator import AnnotationMode
from pipelines.schemas import open_parquet
from pipelines.shards import ACCEPTED, REJECTED, AnnotateShards, ShardJob
from pipelines.sources.parquet import QuestionFolder, check_questions, pending_rows
from reasoning.errors import ConfigError, InputError, OutputMismatchError, StagebeamError, TeacherError
from reasoning.prompts import PROMPT_VERSION

RUN_KIND = "annotate"
ACTOR_CPUS = 0.5
"""An annotation actor waits for the teacher most of the time."""
READER_CPUS = 1.25
"""What reading and cutting into blocks needs beside the actors, or they would take every CPU and wait for ever."""


class AnnotateConfig(BaseModel):
    """One annotation run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    input: Path
    """A Parquet file of questions, or a folder of them."""
    output: Path
    """The run's folder: accepted/, rejected/, commits/ and run.json."""
    teacher: TeacherConfig
    """Who writes the annotations."""
    mode: AnnotationMode = AnnotationMode.ONE_PROMPT
    """All four stages in one reply, or a call for each."""
    max_attempts: int = Field(default=3, ge=1)
    """How often a question is put to the teacher, each time with the last fault shown."""
    with_judgements: bool = False
    """Ask for a flawed version of each accepted answer too: the material for judgements."""
    limit: int | None = Field(default=None, ge=1)
    """Only the first so many questions."""
    shard_rows: int = Field(default=64, ge=1)
    """Rows a shard: what an interruption costs at most, for each shard being worked on."""
    actors: int = Field(default=1, ge=1)
    """Annotation actors; each keeps ``teacher.max_in_flight`` calls open."""
    ray_address: str | None = None
    """The Ray cluster to run on; none starts one on this machine for the run."""

    def identity(self) -> dict[str, Any]:
        """What the rows depend on. Where the teacher is, how hard it is asked and how many work at it is not."""
        return {
            "input": str(self.input.resolve()),
            "teacher": {
                "model": self.teacher.model,
                "temperature": self.teacher.temperature,
                "max_tokens": self.teacher.max_tokens,
            },
            "mode": self.mode.value,
            "max_attempts": self.max_attempts,
            "with_judgements": self.with_judgements,
            "limit": self.limit,
            "prompt_version": PROMPT_VERSION,
        }


@dataclass(frozen=True, kw_only=True)
class AnnotateProgress:
    """Where a run stands, its earlier parts included."""

    rows: int
    """Rows of the whole run."""
    done: int
    accepted: int
    rejected: dict[str, int]
    """Rows by reason code, the most frequent first."""
    attempts: int
    """Attempts beyond the first, all rows together."""
    call_retries: int
    """Calls repeated after a rate limit, a server error or a timeout."""
    calls: int
    seconds: float
    """Since this process began; earlier parts are not in it."""


@dataclass(frozen=True, kw_only=True)
class AnnotationSummary:
    """What a finished run holds, its earlier parts included."""

    output: Path
    rows: int
    accepted: int
    rejected: dict[str, int]
    """Rows by reason code, the most frequent first."""
    repaired: int
    """Accepted rows that took more than one attempt."""
    flawed: int
    """Accepted rows with a flawed version for judgements."""
    attempts: int
    """Attempts beyond the first, all rows together."""
    call_retries: int
    calls: int
    prompt_tokens: int
    generated_tokens: int
    dollars: float
    resumed_rows: int
    """Rows that were committed before this process began."""
    seconds: float
    config_hash: str


@dataclass
class _Totals:
    """Sums of the shards' counts, by name."""

    values: dict[str, int] = field(default_factory=dict)

    def add(self, counts: dict[str, int]) -> None:
        for name, value in counts.items():
            self.values[name] = self.values.get(name, 0) + value

    def __getitem__(self, name: str) -> int:
        return self.values.get(name, 0)

    def rejected(self) -> dict[str, int]:
        prefix = "rejected."
        found = {k.removeprefix(prefix): v for k, v in self.values.items() if k.startswith(prefix) and v}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def run_annotation(
    config: AnnotateConfig, on_progress: Callable[[AnnotateProgress], None] | None = None
) -> AnnotationSummary:
    """Annotate every question that is not committed yet; uses the Ray this process is connected to, if any.

    ``on_progress`` is called once at the start and after each shard. Raises InputError for input
    that cannot be used, OutputMismatchError when the output folder is another run's, TeacherError
    when the teacher cannot be reached or is lost on the way; what was committed stays.
    """
    prepare_environment()
    started = time.monotonic()
    folder = check_questions(config.input, limit=config.limit)
    api_key = read_secret(config.teacher.api_key_env, wanted_by="teacher.api_key_env")
    with RunFolder(config.output, kind=RUN_KIND, identity=config.identity()) as run:
        stale = run.remove_uncommitted((ACCEPTED, REJECTED))
        if stale:
            get_logger(__name__).info("files of an interrupted run removed", count=len(stale))
        totals = _Totals()
        for commit in run.commits():
            totals.add(commit.counts)
        resumed_rows = totals["rows"]
        done = committed_ids(config.output)

        def report() -> None:
            if on_progress is not None:
                on_progress(_progress(totals, folder.rows, started))

        report()
        if folder.ids - done:
            check_teacher(config.teacher, api_key)
            needed = config.actors * ACTOR_CPUS + READER_CPUS
            # Of a Ray of our own the CPUs are logical: it may have as many as the job needs.
            own_cpus = max(os.cpu_count() or 1, math.ceil(needed))
            with ray_session(config.ray_address, num_cpus=own_cpus) as cluster:
                require_cpus(cluster, needed, wanted_by=f"annotation with {config.actors} actors")
                job = _shard_job(config, run, api_key)
                for counts in _run_shards(folder, done, job, config):
                    totals.add(counts)
                    report()
        if totals["rows"] != folder.rows:
            raise StagebeamError(
                f"{config.output}: {totals['rows']} rows are committed and {folder.rows} were to be; "
                "rows were added to or taken from the input, or the folder was changed by hand"
            )
        return _summary(config, run, totals, resumed_rows, started)


def committed_ids(output: Path) -> frozenset[str]:
    """The ids of all rows in committed shards of an annotation run."""
    ids: set[str] = set()
    for file in committed_files(output, ACCEPTED) + committed_files(output, REJECTED):
        ids.update(open_parquet(file).read(columns=["id"]).column("id").to_pylist())
    return frozenset(ids)


def committed_files(output: Path, part: str) -> list[Path]:
    """The committed Parquet files of ``part`` (``accepted`` or ``rejected``), by name.

    Raises InputError when ``output`` is no annotation run.
    """
    read_run(output, kind=RUN_KIND)
    names = [name for commit in read_commits(output) for name in commit.files]
    return [output / name for name in names if name.startswith(f"{part}/")]


def _shard_job(config: AnnotateConfig, run: RunFolder, api_key: Secret | None) -> ShardJob:
    return ShardJob(
        teacher=config.teacher,
        api_key=api_key,
        mode=config.mode,
        max_attempts=config.max_attempts,
        with_flaws=config.with_judgements,
        output=str(run.path.resolve()),
        lease=run.lease,
        config_hash=run.config_hash,
    )


def _run_shards(
    folder: QuestionFolder, done: frozenset[str], job: ShardJob, config: AnnotateConfig
) -> Iterator[dict[str, int]]:
    """The counts of each shard as it is committed; raises what ended the run."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    rows = pending_rows(folder, done, rows_per_block=config.shard_rows)
    shards = rows.map_batches(
        AnnotateShards,
        fn_constructor_kwargs={"job": job},
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=ACTOR_CPUS,
        # While one shard waits for its last replies, the next ones keep the teacher busy.
        compute=ray.data.ActorPoolStrategy(
            size=config.actors, max_tasks_in_flight_per_actor=6, max_concurrent_calls_per_actor=4
        ),
    )
    for batch in shards.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for status in batch.to_pylist():
            if status["failure"]:
                raise _error_of(status["failure"])
            yield json.loads(status["counts"])


def _error_of(failure: str) -> StagebeamError:
    """The error of ours that a worker told by its class and message."""
    name, _, message = failure.partition(": ")
    known = {cls.__name__: cls for cls in (TeacherError, OutputMismatchError, InputError, ConfigError)}
    return known.get(name, StagebeamError)(message)


def _progress(totals: _Totals, rows: int, started: float) -> AnnotateProgress:
    return AnnotateProgress(
        rows=rows,
        done=totals["rows"],
        accepted=totals["accepted"],
        rejected=totals.rejected(),
        attempts=totals["further_attempts"],
        call_retries=totals["call_retries"],
        calls=totals["calls"],
        seconds=time.monotonic() - started,
    )


def _summary(
    config: AnnotateConfig, run: RunFolder, totals: _Totals, resumed_rows: int, started: float
) -> AnnotationSummary:
    return AnnotationSummary(
        output=config.output,
        rows=totals["rows"],
        accepted=totals["accepted"],
        rejected=totals.rejected(),
        repaired=totals["repaired"],
        flawed=totals["flawed"],
        attempts=totals["further_attempts"],
        call_retries=totals["call_retries"],
        calls=totals["calls"],
        prompt_tokens=totals["prompt_tokens"],
        generated_tokens=totals["generated_tokens"],
        dollars=totals["nano_dollars"] / 1e9,
        resumed_rows=resumed_rows,
        seconds=time.monotonic() - started,
        config_hash=run.config_hash,
    )
