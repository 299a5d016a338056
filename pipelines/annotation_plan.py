"""What an annotation run has to do: which questions, which of them are committed, which to do over.

Takes the run's folder, prepares data sets that are no question Parquet yet, and compares what the
input holds with what is committed. Decides; starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.logs import get_logger
from cluster.storage import Commit, RunFolder, read_run
from cluster.stores import join, local_path, open_store
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotations import ACCEPTED, REJECTED, RUN_KIND
from pipelines.shards import Replay, ShardTask
from pipelines.sources.base import SourceSpec
from pipelines.sources.catalogue import detect
from pipelines.sources.parquet import QuestionPlan, plan_questions, without_ids
from pipelines.sources.prepare import PrepareProgress, prepare_questions
from reasoning.errors import OutputMismatchError
from reasoning.records import RejectReason

OWN_QUESTIONS = "questions"
"""The name of the source that is question Parquet already."""
QUESTIONS = "questions"
"""Where in a run's folder the questions of prepared data sets lie."""
_REPLAY = "replay"

OnPreparing = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class AnnotationPlan:
    """What a run starts from, and what it has to do."""

    run: RunFolder
    questions: str
    """Where the question files are."""
    tasks: tuple[ShardTask, ...]
    commits: dict[str, Commit]
    """What was committed before, by key."""
    rows: int
    """Questions to be annotated in the end, committed ones included."""
    dropped: int
    vanished: int
    """Committed rows that the input no longer holds; they stay."""
    is_replay: bool = False
    """Whether committed rows are to be done over, and nothing else."""

    @property
    def total_rows(self) -> int:
        return self.rows + self.vanished

    def finish(self) -> None:
        """Everything is done: a replay of the same reasons would be a new one, and superseded files go."""
        found = read_run(self.run.where, kind=RUN_KIND).get(_REPLAY)
        if self.is_replay and found:
            self.run.record(**{_REPLAY: {**found, "is_finished": True}})
        self.run.remove_uncommitted((ACCEPTED, REJECTED))


@contextmanager
def plan_annotation(
    config: AnnotateConfig, replay: frozenset[RejectReason], on_preparing: OnPreparing, *, is_trial: bool = False
) -> Iterator[AnnotationPlan]:
    """Holds the run's folder for the body of the ``with``. Raises as ``pipelines.annotate.run_annotation`` does.

    A trial begins no replay.
    """
    drop = _drop_ids(config.drop)
    specs = _specs(config)
    # Input that cannot be used must not leave a folder behind.
    ready = None if specs else _plan(config, str(config.input), drop)
    if replay:
        read_run(config.output, kind=RUN_KIND)
    with RunFolder(config.output, kind=RUN_KIND, identity=config.identity()) as run:
        stale = run.remove_uncommitted((ACCEPTED, REJECTED))
        if stale:
            get_logger(__name__).info("files of an interrupted run removed", count=len(stale))
        if ready is None:
            folder = join(config.output, QUESTIONS)
            prepare_questions(specs, folder, seed=config.seed, on_progress=lambda news: on_preparing(f"reading {news}"))
            ready = _plan(config, folder, drop)
        commits = {commit.key: commit for commit in run.commits()}
        if replay:
            yield _replay_plan(run, ready, commits, replay, is_trial=is_trial)
        else:
            yield _pending_plan(run, ready, commits)


def _pending_plan(run: RunFolder, asked: QuestionPlan, commits: dict[str, Commit]) -> AnnotationPlan:
    planned = {shard.key for shard in asked.shards}
    left = tuple(shard for shard in asked.shards if shard.key not in commits)
    # Shards that were cut otherwise, by another limit, shard size or input: their rows are done all the same.
    strays = [commit for key, commit in commits.items() if key not in planned]
    pending = QuestionPlan(root=asked.root, shards=left, dropped=asked.dropped)
    vanished = 0
    if strays:
        pending, vanished = without_ids(pending, _ids(run, strays))
    return AnnotationPlan(
        run=run,
        questions=asked.root,
        tasks=pending.shards,
        commits=commits,
        rows=asked.rows,
        dropped=asked.dropped,
        vanished=vanished,
    )


def _replay_plan(
    run: RunFolder,
    asked: QuestionPlan,
    commits: dict[str, Commit],
    reasons: frozenset[RejectReason],
    *,
    is_trial: bool,
) -> AnnotationPlan:
    generation = _replay_generation(run, commits.values(), reasons, is_trial=is_trial)
    replays = (
        Replay(commit=commit, reasons=reasons, generation=generation)
        for commit in commits.values()
        if commit.generation < generation
    )
    tasks = tuple(task for task in replays if task.rows)
    committed = sum(commit.counts["rows"] for commit in commits.values())
    return AnnotationPlan(
        run=run,
        questions=asked.root,
        tasks=tasks,
        commits=commits,
        rows=committed,
        dropped=asked.dropped,
        vanished=0,
        is_replay=True,
    )


def _replay_generation(
    run: RunFolder, commits: Iterable[Commit], reasons: frozenset[RejectReason], *, is_trial: bool
) -> int:
    """The number of this replay; one that was interrupted goes on under its own."""
    names = sorted(reason.value for reason in reasons)
    found = read_run(run.where, kind=RUN_KIND).get(_REPLAY)
    if found and found["reasons"] == names and not found["is_finished"]:
        return int(found["generation"])
    generation = 1 + max((commit.generation for commit in commits), default=0)
    if found:
        generation = max(generation, int(found["generation"]) + 1)
    if not is_trial:
        run.record(**{_REPLAY: {"reasons": names, "generation": generation, "is_finished": False}})
    return generation


def _specs(config: AnnotateConfig) -> tuple[SourceSpec, ...]:
    """The data sets to prepare; empty when the input is question Parquet already."""
    if config.sources:
        return config.sources
    local = local_path(str(config.input))
    if local is None or detect(local).name == OWN_QUESTIONS:
        return ()
    return (SourceSpec(path=local),)


def _prepared(config: AnnotateConfig, specs: Sequence[SourceSpec], on_preparing: OnPreparing) -> str:
    """The folder of the data sets' questions; read anew when their files have changed since."""
    folder = join(config.output, QUESTIONS)

    def on_progress(news: PrepareProgress) -> None:
        on_preparing(f"{'looking at' if news.is_sampling else 'reading'} {news.source}: {news.read:,} rows")

    try:
        prepare_questions(specs, folder, seed=config.seed, on_progress=on_progress)
    except OutputMismatchError:
        # The run is of the same sources, or it would have been refused. A question keeps its id however often it is
        # read, so what is new is added and what is done stays done.
        store = open_store(folder)
        for name in store.names():
            store.remove(name)
        prepare_questions(specs, folder, seed=config.seed, on_progress=on_progress)
    return folder


def _plan(config: AnnotateConfig, where: str, drop: pa.Array | None) -> QuestionPlan:
    return plan_questions(where, shard_rows=config.shard_rows, limit=config.limit, drop=drop)


def _drop_ids(file: Path | None) -> pa.Array | None:
    if file is None:
        return None
    from pipelines.decontaminate import read_drop_list

    return pa.array(sorted(read_drop_list(file)), type=pa.string())


def _ids(run: RunFolder, commits: Sequence[Commit]) -> pa.Array:
    store = open_store(run.where)
    pieces: list[pa.Array] = []
    for commit in commits:
        for name in commit.files:
            with store.open_file(name) as file:
                pieces.append(pq.read_table(file, columns=["id"]).column("id").combine_chunks())
    return pa.concat_arrays(pieces) if pieces else pa.array([], type=pa.string())
