"""Score: answer every question of a Parquet folder by every configured search, offline on Ray Data.

A shard is one search over a slice of questions: it is answered by one actor, many questions at
once, and committed whole, so that a run that was interrupted goes on where it stopped. What a row
ends in (an answer, a fault, an error) is data. Measuring is ``evaluate``'s business.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.engines.build import build_engine
from actors.rewards.calibration import Calibration, calibrated, differences, read_calibration
from cluster.connect import ray_session, require_cpus
from cluster.logs import get_logger
from cluster.storage import RunFolder
from pipelines.answering import COUNTS, AnswerShards, EngineBuilder, Shard, moments_of
from pipelines.answers import RESULTS, SCORE_KIND
from pipelines.schemas import open_parquet, parquet_files
from pipelines.score_config import ScoreConfig
from reasoning.calibration import Moments, drift, watches_drift
from reasoning.errors import ConfigError, EngineError, InputError, OutputMismatchError, StagebeamError

# Two shards an actor: the second fills the engine's batch while the first one's last questions end.
_SHARDS_IN_FLIGHT = 2
_MOST_BLOCKS = 2000
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ScoreProgress:
    """How far a run is; told after each committed shard, and once at the start."""

    search: str
    """The search whose shard was committed; empty at the start."""
    done: int
    """Answers committed, those of earlier runs included."""
    total: int
    correct: int
    graded: int
    """Answers to questions with a known answer."""
    errors: int


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """What a run came to, earlier runs into the same folder included."""

    output: Path
    questions: int
    answers: int
    correct: Mapping[str, int]
    """Search to right answers."""
    errors: Mapping[str, int]
    """Search to rows that ended in an error."""
    resumed_answers: int
    """Answers that were there before this run."""
    seconds: float
    warnings: tuple[str, ...] = ()
    """What the answers are to be read with care for, such as scores that have drifted from the calibration's."""


def run_scoring(
    config: ScoreConfig,
    on_progress: Callable[[ScoreProgress], None] | None = None,
    *,
    build_engine: EngineBuilder = build_engine,
) -> ScoreSummary:
    """Answer what is not answered yet; returns when every shard is committed.

    Uses the Ray this process is connected to, else starts its own. ``build_engine`` is called once
    in each actor and must be picklable. Raises InputError for input that cannot be used,
    OutputMismatchError when the folder belongs to another run, EngineError when the model cannot
    be loaded or fails at every question of a shard.
    """
    started = time.monotonic()
    calibration = None if config.calibration is None else read_calibration(config.calibration)
    if calibration is not None and config.calibration is not None:
        searches = calibrated(config.searches, calibration, source=config.calibration)
        config = config.model_copy(update={"searches": searches})
    files, ids = read_ids(Path(config.input), config.limit)
    shards = plan_shards(config, files, ids)
    run = RunFolder(Path(config.output), kind=SCORE_KIND, identity=identity_of(config, ids))
    with run:
        run.remove_uncommitted(tuple(f"{RESULTS}/{name}" for name in config.searches))
        tally = _Tally(total=len(ids) * len(config.searches))
        by_key = {shard.key: shard for shard in shards}
        for commit in run.commits():
            tally.add(by_key[commit.key].search, commit.counts)
        resumed = tally.done
        committed = {commit.key for commit in run.commits()}
        if on_progress is not None:
            on_progress(tally.progress(""))
        left = [shard for shard in shards if shard.key not in committed]
        for search, counts in _answer(config, left, run, build_engine):
            tally.add(search, counts)
            if on_progress is not None:
                on_progress(tally.progress(search))
    warnings = _warnings(config, calibration, tally.moments)
    for warning in warnings:
        _log.warning("scores_drifted", what=warning)
    return ScoreSummary(
        output=Path(config.output),
        questions=len(ids),
        answers=tally.done,
        correct=dict(tally.correct),
        errors=dict(tally.errors),
        resumed_answers=resumed,
        seconds=time.monotonic() - started,
        warnings=warnings,
    )


def read_ids(path: Path, limit: int | None) -> tuple[list[tuple[Path, int]], list[str]]:
    """The files with how many of their questions are to be answered, and all ids, in order.

    Raises InputError when there is no question, or one id stands for two.
    """
    files: list[tuple[Path, int]] = []
    ids: list[str] = []
    for file in parquet_files(path):
        wanted = None if limit is None else limit - len(ids)
        if wanted == 0:
            break
        with open_parquet(file) as parquet:
            if "id" not in parquet.schema_arrow.names:
                raise InputError(f"{file}: has no column 'id'; question Parquet has id and question at least")
            batches = parquet.iter_batches(batch_size=4096, columns=["id"])
            found = list(itertools.islice((i for batch in batches for i in batch.column(0).to_pylist()), wanted))
        files.append((file, len(found)))
        ids.extend(str(identity) for identity in found)
    if not ids:
        raise InputError(f"{path}: holds no question")
    if len(set(ids)) < len(ids):
        twice = next(identity for k, identity in enumerate(sorted(ids)[1:]) if identity == sorted(ids)[k])
        raise InputError(f"{path}: two questions have the id {twice!r}; ids must tell questions apart")
    return files, ids


def plan_shards(config: ScoreConfig, files: Sequence[tuple[Path, int]], ids: Sequence[str]) -> list[Shard]:
    """Every shard of the run, one search after another; a shard never crosses a file's end."""
    slices: list[tuple[Path, int, int, str]] = []
    position = 0
    for file, count in files:
        for start in range(0, count, config.shard_questions):
            stop = min(start + config.shard_questions, count)
            inside = ids[position + start : position + stop]
            slices.append((file, start, stop, hashlib.sha256("\n".join(inside).encode()).hexdigest()[:12]))
        position += count
    return [
        Shard(search=name, number=number, file=str(file), start=start, stop=stop, key=f"{name}-{number:05d}-{digest}")
        for name in config.searches
        for number, (file, start, stop, digest) in enumerate(slices)
    ]


def identity_of(config: ScoreConfig, ids: Sequence[str]) -> dict[str, Any]:
    """What the answers depend on: the questions, the model, the searches; not where or how fast."""
    return {
        "questions": hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16],
        **config.models(),
        "searches": {name: asdict(search) for name, search in config.searches.items()},
        "search_order": list(config.searches),
        "shard_questions": config.shard_questions,
    }


class _Tally:
    def __init__(self, *, total: int) -> None:
        self.total = total
        self.done = 0
        self.graded = 0
        self.correct: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.moments: dict[str, Moments] = {}
        """Scores of first rounds, by retracing search."""

    def add(self, search: str, counts: Mapping[str, int]) -> None:
        self.done += counts["rows"]
        self.graded += counts["graded"]
        self.correct[search] = self.correct.get(search, 0) + counts["correct"]
        self.errors[search] = self.errors.get(search, 0) + counts["errors"]
        self.moments[search] = self.moments.get(search, Moments()) + moments_of(counts)

    def progress(self, search: str) -> ScoreProgress:
        return ScoreProgress(
            search=search,
            done=self.done,
            total=self.total,
            correct=sum(self.correct.values()),
            graded=self.graded,
            errors=sum(self.errors.values()),
        )


def _warnings(config: ScoreConfig, calibration: Calibration | None, moments: Mapping[str, Moments]) -> tuple[str, ...]:
    """What speaks against the searches' cutoffs."""
    found = []
    if calibration is not None:
        others = differences(calibration.made_with, config.models())
        if others:
            found.append(f"{config.calibration} was fitted with another {', '.join(others)}; run `stagebeam calibrate`")
    for name, search in config.searches.items():
        expected = search.retrace.expected
        if watches_drift(search) and expected is not None and (said := drift(expected, moments[name])) is not None:
            found.append(f"{name}: {said}")
    return tuple(found)


def _answer(
    config: ScoreConfig, shards: Sequence[Shard], run: RunFolder, build_engine: EngineBuilder
) -> Iterator[tuple[str, dict[str, int]]]:
    """Run the Ray Data job; yields (search, counts) of each shard once it is committed."""
    if not shards:
        return
    actors = min(config.actors, len(shards))
    with ray_session() as cluster:
        import ray

        require_cpus(cluster, actors * config.cpus_per_actor, wanted_by=f"score with {actors} actors")
        dataset = ray.data.from_items(
            [asdict(shard) for shard in shards], override_num_blocks=min(len(shards), _MOST_BLOCKS)
        ).map_batches(
            AnswerShards,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(
                size=actors,
                max_tasks_in_flight_per_actor=2 * _SHARDS_IN_FLIGHT,
                max_concurrent_calls_per_actor=_SHARDS_IN_FLIGHT,
            ),
            num_cpus=config.cpus_per_actor,
            num_gpus=config.gpus_per_actor,
            fn_constructor_kwargs={
                "engine": config.answerer,
                "threads": config.threads,
                "judge": config.judge,
                "reward": config.reward,
                "searches": dict(config.searches),
                "in_flight": config.in_flight,
                "output": config.output,
                "lease": run.lease,
                "build_engine": build_engine,
            },
        )
        try:
            for row in dataset.iter_rows():
                if row["failure"]:
                    raise _error_of(row["failure"])
                yield row["search"], {name: int(row[name]) for name in COUNTS}
        except ray.exceptions.RayError as error:
            raise EngineError(f"scoring stopped, run it again to go on: {error}") from error


def _error_of(failure: str) -> StagebeamError:
    """The error of ours that a worker told by its class and message."""
    kind, _, message = failure.partition(": ")
    known = {cls.__name__: cls for cls in (EngineError, InputError, ConfigError, OutputMismatchError)}
    return known.get(kind, EngineError)(message)
