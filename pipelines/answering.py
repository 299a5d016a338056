"""The actor of ``score``: one engine, many questions at once, one committed shard a call.

Lives on a worker. Row by row: an answer, a fault or an error; only an engine that fails at every
question of a shard ends the run.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.engines.config import EngineConfig
from actors.rewards.build import build_rewarder
from actors.rewards.config import RewardConfig
from cluster.process import keep_what_is_loaded
from cluster.storage import Commit, write_commit
from pipelines.answers import RESULTS, question_columns, table_of
from pipelines.schemas import open_parquet, question_from_row, write_table
from reasoning.calibration import Moments, first_round_scores, watches_drift
from reasoning.counts import count_verdicts
from reasoning.errors import EngineError, ImageError, InputError, StagebeamError
from reasoning.grading import is_correct
from reasoning.protocols import Engine, Rewarder
from reasoning.records import ImageRef, Question
from reasoning.search.config import SearchConfig
from reasoning.search.result import SearchResult
from reasoning.search.run import run_search

EngineBuilder = Callable[[EngineConfig], Engine]


@dataclass(frozen=True, kw_only=True)
class SearchImage(ImageRef):
    """A picture under a key of its own for each search.

    An engine remembers what it computed for a picture. Were the key the same in all searches, the
    later ones would find their predecessors' work done, and costs could not be compared.
    """

    search: str

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{super().key}\x1f{self.search}".encode()).hexdigest()[:32]


_MOMENTS = {"scored": "count", "scores_micro": "micro", "squares_micro": "micro_squares"}
"""Counts of a shard to fields of ``Moments``: scores of retracing searches' first rounds."""
COUNTS = ("rows", "graded", "correct", "errors", *_MOMENTS)
_SCORES = "first_round_scores"
_INPUT_ERRORS = frozenset({InputError.__name__, ImageError.__name__})


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One search over rows [start, stop) of one file; ``key`` names its marker."""

    search: str
    number: int
    file: str
    start: int
    stop: int
    key: str

    @property
    def output_file(self) -> str:
        """Relative to the run folder."""
        return f"{RESULTS}/{self.search}/part-{self.number:05d}.parquet"


class AnswerShards:
    """Callable class for ``map_batches`` with batches of one shard; gives back each shard's counts."""

    def __init__(
        self,
        *,
        engine: EngineConfig,
        judge: EngineConfig | None,
        reward: RewardConfig | None,
        searches: Mapping[str, SearchConfig],
        threads: int,
        in_flight: int,
        output: str,
        lease: str,
        build_engine: EngineBuilder,
    ) -> None:
        self._engine: Engine | StagebeamError
        self._judge: Engine | None = None
        self._rewarder: Rewarder | None = None
        try:
            self._engine = build_engine(engine)
            if judge is not None:
                self._judge = build_engine(judge)
            if reward is not None:
                self._rewarder = build_rewarder(reward, threads=threads)
        except StagebeamError as error:
            # Raised here it would reach the driver as a dead actor; kept, it is the first shard's answer.
            self._engine = error
        keep_what_is_loaded()
        self._searches = searches
        self._gate = asyncio.Semaphore(in_flight)
        self._output = Path(output)
        self._lease = lease

    async def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """``batch`` holds one shard, a column for each of its fields.

        What ends the run is given back in the column ``failure``, as the class and message of one of
        our errors: through Ray's own exceptions neither would arrive.
        """
        shard = Shard(
            search=str(batch["search"][0]),
            number=int(batch["number"][0]),
            file=str(batch["file"][0]),
            start=int(batch["start"][0]),
            stop=int(batch["stop"][0]),
            key=str(batch["key"][0]),
        )
        counts, failure = dict.fromkeys(COUNTS, 0), ""
        try:
            counts = await self._answer_shard(shard)
        except StagebeamError as error:
            failure = f"{type(error).__name__}: {error}"
        return {"search": [shard.search], "failure": [failure], **{name: [value] for name, value in counts.items()}}

    async def _answer_shard(self, shard: Shard) -> dict[str, int]:
        if isinstance(self._engine, StagebeamError):
            raise self._engine
        raw = await asyncio.to_thread(read_slice, Path(shard.file), shard.start, shard.stop)
        rows = await asyncio.gather(*(self._answer_row(row, shard.search, self._engine) for row in raw))
        _raise_if_all_failed(shard, rows)
        counts = counts_of(rows)
        await asyncio.to_thread(self._commit, shard, rows, counts)
        return counts

    async def _answer_row(self, row: Mapping[str, Any], search: str, engine: Engine) -> dict[str, Any]:
        config = self._searches[search]
        known = {"question_id": row.get("id"), "search": search, "strategy": config.strategy.value}
        async with self._gate:
            try:
                question = question_from_row(row)
                known |= question_columns(question)
                result = await run_search(
                    for_search(question, search),
                    config,
                    generator=engine,
                    judge=self._judge or engine,
                    rewarder=self._rewarder,
                    clock=time.monotonic,
                )
                scores = first_round_scores(result.trace, config) if watches_drift(config) else []
                return known | result_columns(question, result) | {_SCORES: scores}
            except Exception as error:  # noqa: BLE001  whatever one question ends in must not cost the others
                return known | {"error": str(error), "error_type": type(error).__name__}

    def _commit(self, shard: Shard, rows: Sequence[Mapping[str, Any]], counts: dict[str, int]) -> None:
        path = self._output / shard.output_file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, table_of(rows))
        write_commit(self._output, Commit(key=shard.key, files=(shard.output_file,), counts=counts), lease=self._lease)


def for_search(question: Question, search: str) -> Question:
    """The question with its picture's key made this search's own."""
    image = question.image
    if image is None:
        return question
    own = SearchImage(data=image.data, uri=image.uri, media_type=image.media_type, search=search)
    return replace(question, image=own)


def read_slice(file: Path, start: int, stop: int) -> list[dict[str, Any]]:
    """Rows [start, stop) of a Parquet file; reads no more row groups than hold them."""
    rows: list[dict[str, Any]] = []
    with open_parquet(file) as parquet:
        first = 0
        for number in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(number).num_rows
            if first < stop and start < first + count:
                table = parquet.read_row_group(number)
                inner = max(start - first, 0)
                rows.extend(table.slice(inner, min(stop - first, count) - inner).to_pylist())
            first += count
    return rows


def result_columns(question: Question, result: SearchResult) -> dict[str, Any]:
    """The columns that a search adds to its question's."""
    stages = result.stages
    is_right = None
    if question.answer is not None:
        is_right = result.conclusion is not None and is_correct(question, result.conclusion)
    return {
        "strategy": result.strategy,
        "conclusion": result.conclusion,
        "is_correct": is_right,
        "fault": result.fault,
        "summary": stages.summary if stages else None,
        "caption": stages.caption if stages else None,
        "reasoning": stages.reasoning if stages else None,
        "text": result.text,
        "score": result.score,
        "score_kind": result.score_kind,
        "stop_reasons": [reason.value for reason in result.stop_reasons],
        "ended_by": result.ended_by.value,
        "trace": result.trace.to_json(),
        **result.ledger.as_dict(),
        "computed_tokens": result.ledger.computed_tokens,
        **count_verdicts(result.trace).as_dict(),
    }


def counts_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """What a shard adds to the run's totals."""
    moments = sum((Moments.of(row.get(_SCORES) or ()) for row in rows), Moments())
    return {
        "rows": len(rows),
        "graded": sum(row.get("is_correct") is not None for row in rows),
        "correct": sum(row.get("is_correct") is True for row in rows),
        "errors": sum(row.get("error_type") is not None for row in rows),
        **{name: getattr(moments, field) for name, field in _MOMENTS.items()},
    }


def moments_of(counts: Mapping[str, int]) -> Moments:
    """The scores that a shard's counts tell of; none for shards of older runs."""
    return Moments(**{field: counts.get(name, 0) for name, field in _MOMENTS.items()})


def _raise_if_all_failed(shard: Shard, rows: Sequence[Mapping[str, Any]]) -> None:
    """A shard of two or more rows that all failed, and not for their input, says the engine is at fault."""
    kinds = {row.get("error_type") for row in rows}
    if len(rows) > 1 and None not in kinds and not kinds <= _INPUT_ERRORS:
        raise EngineError(
            f"search {shard.search!r} failed at each of the {len(rows)} questions of a shard; "
            f"the first: {rows[0]['error_type']}: {rows[0]['error']}"
        )
