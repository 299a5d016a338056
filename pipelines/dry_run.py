"""A run before it is paid for: what it would ask, and what that would take. Asks nobody.

Reads data sets into the run's folder as the run itself would, so that nothing is read twice; writes
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

from actors.request_cache import paid_totals
from cluster.stores import open_store
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotation_plan import AnnotationPlan, OnPreparing, plan_annotation
from pipelines.annotation_totals import Totals
from pipelines.estimate import SAMPLED_ROWS, DryRun, Measured, dry_run, plan_of
from pipelines.schemas import question_from_row
from pipelines.shard_files import read_commit_rows
from pipelines.shards import ShardTask
from pipelines.sources.parquet import QuestionShard, read_shard
from reasoning.errors import InputError
from reasoning.records import Question, RejectReason

_SAMPLED_SHARDS = 25
_ENOUGH_ROWS = 50
"""From so many committed rows on, what they took says more than what is assumed."""


def dry_run_annotation(
    config: AnnotateConfig, on_preparing: OnPreparing, *, replay: frozenset[RejectReason] = frozenset()
) -> DryRun:
    """Three whole prompts and the estimate for the rows that are left; raises as ``run_annotation`` does."""
    with plan_annotation(config, replay, on_preparing, is_trial=True) as plan:
        paid = paid_totals(config.calls)
        rows = plan.total_rows - sum(commit.counts["rows"] for commit in plan.commits.values())
        if replay:
            rows = sum(task.rows for task in plan.tasks)
        settings = plan_of(config, paid=paid, measured=_measured(plan))
        return dry_run(settings, _sample(plan), rows)


def _measured(plan: AnnotationPlan) -> Measured | None:
    totals = Totals.of(commit.counts for commit in plan.commits.values())
    if totals["rows"] < _ENOUGH_ROWS:
        return None
    return Measured(
        rows=totals["rows"],
        calls=totals["calls"],
        prompt_tokens=totals["prompt_tokens"],
        generated_tokens=totals["generated_tokens"],
        call_s=totals.latency_s().get("p50"),
    )


def _sample(plan: AnnotationPlan) -> Iterator[Question]:
    """Questions from all over the input, the same at every dry run."""
    step = max(1, len(plan.tasks) // _SAMPLED_SHARDS)
    chosen = plan.tasks[::step][:_SAMPLED_SHARDS]
    for task in chosen:
        yield from _questions(plan, task, at_most=max(1, SAMPLED_ROWS // len(chosen)))


def _questions(plan: AnnotationPlan, task: ShardTask, *, at_most: int) -> Iterator[Question]:
    if isinstance(task, QuestionShard):
        rows = read_shard(open_store(plan.questions), task)
    else:
        found = read_commit_rows(plan.run.store, task.commit)
        rows = [row for row in found if row["reason"] in task.reasons]
    for row in rows[:at_most]:
        try:
            yield question_from_row(row)
        except InputError:
            continue  # The run itself rejects it, with this error as the reason.
