"""The command ``stagebeam annotate``: read the settings, run the job, say what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.stores import local_path
from stagebeam.console import Update, duration, output_console, progress
from stagebeam.settings import load_config

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.annotate_config import AnnotateConfig
    from pipelines.annotation_totals import AnnotateProgress, AnnotationSummary
    from reasoning.records import RejectReason

ROWS = "rows"
"""Where in an annotation run's folder its training rows go."""


def run_annotate(
    file: Path | None,
    overrides: Sequence[str],
    *,
    with_standin: bool,
    dry_run: bool,
    replay: Sequence[str],
    ray: str | None,
) -> None:
    """See ``pipelines.annotate``; prints counts by reason and writes training rows."""
    from pipelines.annotate import run_annotation
    from pipelines.annotate_config import AnnotateConfig
    from stagebeam.standin.process import start_standin

    console = output_console()
    reasons = _reasons(replay)
    with ExitStack() as stack:
        given = list(overrides)
        if with_standin:
            standin = stack.enter_context(start_standin())
            given += [f"teacher.base_url={standin.base_url}", f"teacher.model={standin.model}"]
        config = load_config(AnnotateConfig, file, given)
        if ray is not None:
            config = config.model_copy(update={"ray_address": ray})
        if dry_run:
            _show_dry_run(console, config, reasons)
            return
        update = stack.enter_context(progress(console, "Annotate"))
        summary = run_annotation(config, lambda news: _show(update, news), replay=reasons)
    _report(console, summary)
    _write_rows(console, config, summary)


def _show_dry_run(console: Console, config: AnnotateConfig, reasons: frozenset[RejectReason]) -> None:
    from pipelines.dry_run import dry_run_annotation
    from pipelines.estimate_view import dry_run_lines

    with progress(console, "Dry run") as update:
        found = dry_run_annotation(config, lambda what: update(0, 0, what), replay=reasons)
    for line in dry_run_lines(found):
        console.print(line, markup=False)


def _show(update: Update, news: AnnotateProgress) -> None:
    if news.preparing:
        update(0, 0, news.preparing)
        return
    cost = f" · ${news.dollars:,.2f}" if news.dollars else ""
    update(news.done, news.rows, f"{news.accepted:,} accepted · {sum(news.rejected.values()):,} rejected{cost}")


def _report(console: Console, summary: AnnotationSummary) -> None:
    lines = [
        f"{summary.rows:,} questions in {duration(summary.seconds)}: {summary.accepted:,} accepted, "
        f"{sum(summary.rejected.values()):,} rejected → {summary.output}",
        *(f"  {reason}: {count:,}" for reason, count in summary.rejected.items()),
    ]
    if summary.resumed_rows:
        lines.append(f"{summary.resumed_rows:,} of them were done before")
    if summary.dropped:
        lines.append(f"{summary.dropped:,} left out: on the drop list")
    if summary.vanished:
        lines.append(f"{summary.vanished:,} rows of earlier parts are no longer in the input; they stay")
    cost = f", ${summary.dollars:,.4f}" if summary.dollars else ""
    lines.append(
        f"{summary.calls:,} calls, {summary.prompt_tokens:,} prompt and {summary.generated_tokens:,} generated "
        f"tokens{cost}; paid for now: {summary.paid_calls:,} calls"
        + (f", ${summary.paid_dollars:,.4f}" if summary.paid_dollars else "")
    )
    if summary.latency_s:
        latency = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in summary.latency_s.items())
        lines.append(f"{summary.rows_per_second:,.1f} rows/s; a call took {latency}")
    for line in lines:
        console.print(line, markup=False)


def _write_rows(console: Console, config: AnnotateConfig, summary: AnnotationSummary) -> None:
    if not summary.accepted:
        return
    folder = local_path(config.output)
    if folder is None:
        advice = f"Training rows: stagebeam export '{config.output}' --format parquet --output FOLDER"
        console.print(advice, markup=False)
        return
    from stagebeam.training_rows import describe, export_rows

    for name, exported in export_rows(folder, folder / ROWS, renew=True).items():
        console.print(f"{describe(name, exported)} → {exported.output}", markup=False)


def _reasons(names: Sequence[str]) -> frozenset[RejectReason]:
    from reasoning.errors import ConfigError
    from reasoning.records import RejectReason

    known = {reason.value: reason for reason in RejectReason}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"--replay {unknown[0]}: is no reason code; known: {', '.join(known)}")
    return frozenset(known[name] for name in names)
