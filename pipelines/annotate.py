"""The annotation job: questions in, accepted and rejected rows out, each with its reason.

The questions are cut into small shards; Ray Data hands these to async actors, each of which
annotates a shard and commits it: accepted rows, rejected rows, then a marker, each file whole or
not at all. What is committed is never done again, and what a shard paid for before it was
committed lies in the request cache: a run that was interrupted, however hard, goes on with the
rest. No row is ever dropped. The images stay with the workers; the driver sees ids and counts.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

from actors.governor import GovernorSummary, RunningGovernor, start_governor
from actors.prices import check_budget
from actors.request_cache import PaidTotals, paid_totals
from actors.teacher import check_teacher, prices_of, read_key
from cluster.connect import prepare_environment, ray_session, require_cpus
from cluster.secrets import Secret
from cluster.stores import absolute
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotation_plan import AnnotationPlan, plan_annotation
from pipelines.annotation_totals import AnnotateProgress, AnnotationSummary, Totals
from pipelines.dataset_card import write_card
from pipelines.shards import AnnotateShards, Replay, ShardJob
from reasoning.errors import (
    BudgetReachedError,
    ConfigError,
    InputError,
    OutputMismatchError,
    StagebeamError,
    TeacherError,
)
from reasoning.records import RejectReason

ACTOR_CPUS = 0.5
"""An annotation actor waits for the teacher most of the time."""
READER_CPUS = 1.25
"""What Ray Data's own tasks need beside the actors, or these would take every CPU and wait for ever."""
DRAIN_S = 20.0
"""How long calls that are open when a run is stopped may take to be answered and kept."""
SHARE_IN_WORK = 2
"""Rows being worked on for each call that may be open: some always wait for their shard's last reply."""
_ENDING: tuple[type[StagebeamError], ...] = (
    TeacherError,
    BudgetReachedError,
    OutputMismatchError,
    InputError,
    ConfigError,
)

OnProgress = Callable[[AnnotateProgress], None]


def run_annotation(
    config: AnnotateConfig, on_progress: OnProgress | None = None, *, replay: Iterable[RejectReason] = ()
) -> AnnotationSummary:
    """Annotate every question that is not committed yet; uses the Ray this process is connected to, if any.

    With ``replay``, do the committed rows over that were rejected for one of these reasons, with
    fresh replies. ``on_progress`` is called at the start and after each shard. Raises InputError
    for input that cannot be used, OutputMismatchError when the output folder is another run's,
    TeacherError when the teacher cannot be reached or is lost on the way, BudgetReachedError when
    what may be spent is spent; what was committed or paid for stays.
    """
    prepare_environment()
    api_key = read_key(config.teacher)
    check_budget(config.limits, prices_of(config.teacher))
    watch = _Watch(on_progress)
    with plan_annotation(config, frozenset(replay), watch.preparing) as plan:
        paid_before = paid_totals(config.calls)
        watch.begin(plan)
        failure: StagebeamError | None = None
        if plan.tasks:
            check_teacher(config.teacher, api_key)
            try:
                for counts in _run_shards(plan, config, api_key, paid_before, watch):
                    watch.committed(counts)
            except StagebeamError as error:
                failure = error
                # Shards may have been committed while the open calls were waited for.
                watch.recount(plan)
        _check_complete(config, plan, watch.totals, failure)
        summary = _summary(config, plan, watch, paid_before)
        _record(plan, summary, watch.governor, is_finished=failure is None)
        if failure is not None:
            raise failure
        plan.finish()
        write_card(config.output)
        return summary


class _Watch:
    """Adds up what is committed and tells it on."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self.started = time.monotonic()
        self.totals = Totals()
        self.resumed_rows = 0
        self.governor: GovernorSummary | None = None
        self._rows = 0
        self._on_progress = on_progress

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def preparing(self, what: str) -> None:
        self._tell(what)

    def begin(self, plan: AnnotationPlan) -> None:
        self._rows = plan.total_rows
        for commit in plan.commits.values():
            self.totals.add(commit.counts)
        for task in plan.tasks:
            if isinstance(task, Replay):
                self.totals.add(task.commit.counts, sign=-1)
        self.resumed_rows = self.totals["rows"]
        self._tell()

    def committed(self, counts: dict[str, int]) -> None:
        self.totals.add(counts)
        self._tell()

    def recount(self, plan: AnnotationPlan) -> None:
        self.totals = Totals.of(commit.counts for commit in plan.run.commits())

    def _tell(self, preparing: str = "") -> None:
        if self._on_progress is None:
            return
        totals = self.totals
        self._on_progress(
            AnnotateProgress(
                rows=self._rows,
                done=totals["rows"],
                accepted=totals["accepted"],
                rejected=totals.rejected(),
                attempts=totals["further_attempts"],
                call_retries=totals["call_retries"],
                calls=totals["calls"],
                dollars=totals.dollars,
                seconds=self.seconds,
                preparing=preparing,
            )
        )


def _run_shards(
    plan: AnnotationPlan, config: AnnotateConfig, api_key: Secret | None, paid: PaidTotals, watch: _Watch
) -> Iterator[dict[str, int]]:
    """The counts of each shard as it is committed; raises what ends the run.

    However it ends, calls that are open then are waited for: they are paid, so they are kept.
    """
    needed = config.actors * ACTOR_CPUS + READER_CPUS
    # Of a Ray of our own the CPUs are logical: it may have as many as the job needs.
    own_cpus = max(os.cpu_count() or 1, math.ceil(needed))
    with ray_session(config.ray_address, num_cpus=own_cpus) as cluster:
        require_cpus(cluster, needed, wanted_by=f"annotation with {config.actors} actors")
        with start_governor(config.limits, calls=config.calls, paid=paid) as governor:
            is_through = False
            try:
                for status in _statuses(plan, config, _shard_job(plan, config, api_key, governor)):
                    if status["failure"]:
                        raise _error_of(status["failure"])
                    yield json.loads(status["counts"])
                is_through = True
            finally:
                if not is_through:
                    governor.stop_and_drain(DRAIN_S)
                watch.governor = governor.summary()


def _statuses(plan: AnnotationPlan, config: AnnotateConfig, job: ShardJob) -> Iterator[dict[str, Any]]:
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # While some shards wait for their last replies, others keep the teacher busy.
    open_shards = 2 + math.ceil(SHARE_IN_WORK * config.teacher.max_in_flight / config.shard_rows)
    numbers = list(range(len(plan.tasks)))
    shards = ray.data.from_items(numbers, override_num_blocks=len(numbers)).map_batches(
        AnnotateShards,
        fn_constructor_kwargs={"job": job, "tasks": ray.put(plan.tasks)},
        batch_size=None,
        num_cpus=ACTOR_CPUS,
        compute=ray.data.ActorPoolStrategy(
            size=config.actors,
            max_tasks_in_flight_per_actor=open_shards + 2,
            max_concurrent_calls_per_actor=open_shards,
        ),
    )
    for batch in shards.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.to_pylist()


def _shard_job(
    plan: AnnotationPlan, config: AnnotateConfig, api_key: Secret | None, governor: RunningGovernor
) -> ShardJob:
    return ShardJob(
        questions=plan.questions,
        output=absolute(config.output),
        calls=absolute(config.calls),
        lease=plan.run.lease,
        config_hash=plan.run.config_hash,
        teacher=config.teacher,
        api_key=api_key,
        governor=governor.handle,
        mode=config.mode,
        verify=config.verify,
        max_attempts=config.max_attempts,
        with_flaws=config.with_judgements,
    )


def _error_of(failure: str) -> StagebeamError:
    """The error of ours that a worker told by its class and message."""
    name, _, message = failure.partition(": ")
    known = {cls.__name__: cls for cls in _ENDING}
    return known.get(name, StagebeamError)(message)


def _check_complete(
    config: AnnotateConfig, plan: AnnotationPlan, totals: Totals, failure: StagebeamError | None
) -> None:
    if failure is None and totals["rows"] != plan.total_rows:
        raise StagebeamError(
            f"{config.output}: {totals['rows']} rows are committed and {plan.total_rows} were to be; "
            "the folder was changed by hand, or the input while the run went on"
        )


def _summary(config: AnnotateConfig, plan: AnnotationPlan, watch: _Watch, paid_before: PaidTotals) -> AnnotationSummary:
    totals, paid = watch.totals, paid_totals(config.calls)
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
        dollars=totals.dollars,
        latency_s=totals.latency_s(),
        dropped=plan.dropped,
        vanished=plan.vanished,
        resumed_rows=watch.resumed_rows,
        paid_calls=paid.calls - paid_before.calls,
        paid_dollars=paid.dollars - paid_before.dollars,
        seconds=watch.seconds,
        config_hash=plan.run.config_hash,
    )


def _record(
    plan: AnnotationPlan, summary: AnnotationSummary, governor: GovernorSummary | None, *, is_finished: bool
) -> None:
    """What came of the run so far, in ``run.json``; the governor's view is of the last part that asked anybody."""
    result = {k: v for k, v in asdict(summary).items() if k not in ("output", "config_hash")}
    result |= {"is_finished": is_finished, "rows_per_second": round(summary.rows_per_second, 2)}
    more = {} if governor is None else {"governor": asdict(governor)}
    plan.run.record(result=result, **more)
