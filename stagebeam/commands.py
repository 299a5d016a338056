"""What the commands do: read the settings, call the part that does the work, say what came of it.

Imported when a command runs; each function imports its own part.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

from stagebeam.console import duration, output_console, print_table, progress
from stagebeam.settings import load_config

FEEDING_CPUS = 2


def run_quickstart(file: Path | None, overrides: Sequence[str], *, fresh: bool) -> None:
    """See ``stagebeam.quickstart.loop``."""
    from stagebeam.quickstart.config import QuickstartConfig

    config = load_config(QuickstartConfig, file, overrides)
    console = output_console()
    console.print("Loading …")
    from stagebeam.quickstart.loop import run_quickstart as run_loop

    run_loop(config, console, fresh=fresh)


def run_train(file: Path | None, overrides: Sequence[str], *, ray: str | None) -> None:
    """See ``train.launch``."""
    from cluster.connect import connect, start_local
    from train.config import TrainConfig

    config = load_config(TrainConfig, file, overrides)
    console = output_console()
    from train.launch import run_training
    from train.progress import TrainProgress

    with progress(console, "Train") as update:

        def on_progress(news: TrainProgress) -> None:
            update(news.step, news.total_steps, f"loss {news.loss:.4f} · {news.samples_per_second:.1f} rows/s")

        update(0, 0, "starting Ray")
        # Logical CPUs for the tasks that feed the workers too: without them training would wait for ever.
        needed = math.ceil(config.workers * config.cpus_per_worker) + FEEDING_CPUS
        with connect(ray) if ray is not None else start_local(max(os.cpu_count() or 1, needed)):
            summary = run_training(config, on_progress)
    losses = f", loss {summary.losses[0][1]:.4f} → {summary.losses[-1][1]:.4f}" if summary.losses else ""
    console.print(f"{summary.steps} steps in {duration(summary.seconds)}{losses} → {summary.model_dir}", markup=False)


def run_serve(file: Path | None, overrides: Sequence[str], *, ray: str | None) -> None:
    """See ``serve.launch``; returns when the service was asked to stop."""
    from serve.config import ServeConfig
    from stagebeam.model_search import load_with_search

    config = load_with_search(ServeConfig, file, overrides)
    console = output_console()
    console.print("Loading …")
    from serve.launch import ServeProgress, serve_until_stopped

    with ExitStack() as display:
        update = display.enter_context(progress(console, "Serve"))

        def on_progress(news: ServeProgress) -> None:
            update(news.ready, news.total, "deployments are up")

        def on_ready(url: str) -> None:
            display.close()
            console.print(f"{config.served_model_name} answers at {url} until Ctrl-C", markup=False)
            console.print(f'Try: stagebeam ask IMAGE "QUESTION" --url {url}', markup=False)

        serve_until_stopped(config, on_ready, on_progress, address=ray)
    console.print("The service is down.")


def run_score(
    file: Path | None,
    overrides: Sequence[str],
    *,
    preferences: Path | None,
    judgements: Path | None,
    ray: str | None,
) -> None:
    """See ``pipelines.score`` and, with folders given, ``pipelines.preferences`` and ``pipelines.own_judgements``.

    Prints right answers by search.
    """
    from cluster.connect import connect
    from pipelines.score import ScoreProgress, run_scoring
    from pipelines.score_config import ScoreConfig

    config = load_config(ScoreConfig, file, overrides)
    console = output_console()
    with progress(console, "Score") as update:

        def on_progress(news: ScoreProgress) -> None:
            share = f" · {news.correct:,} of {news.graded:,} right" if news.graded else ""
            update(news.done, news.total, f"{news.search}{share}")

        # Without an address it starts one itself, once it has looked at its input.
        with connect(ray) if ray is not None else nullcontext():
            summary = run_scoring(config, on_progress)
    console.print(
        f"{summary.answers:,} answers to {summary.questions:,} questions in {duration(summary.seconds)} "
        f"→ {summary.output}",
        markup=False,
    )
    for name in config.searches:
        failed = f", {summary.errors[name]} rows failed" if summary.errors.get(name) else ""
        console.print(f"  {name}: {summary.correct.get(name, 0):,} right{failed}", markup=False)
    for warning in summary.warnings:
        console.print(f"Warning: {warning}", markup=False)
    if preferences is not None:
        from pipelines.preferences import export_preferences

        found = export_preferences(summary.output, Path(config.input), preferences)
        console.print(
            f"{found.pairs['judge']:,} pairs by the judge, {found.pairs['answer']:,} by the answer, "
            f"{found.steps:,} answers in steps → {found.output}",
            markup=False,
        )
    if judgements is not None:
        from pipelines.own_judgements import export_own_judgements

        made = export_own_judgements(summary.output, Path(config.input), judgements)
        rows = ", ".join(f"{count:,} of {name}s" for name, count in made.rows.items())
        console.print(
            f"judgements from {made.questions:,} questions with right and wrong answers: {rows} → {made.output}",
            markup=False,
        )


def run_calibrate(file: Path | None, overrides: Sequence[str], *, ray: str | None) -> None:
    """See ``pipelines.calibrate``; prints how scores lie and what cutoffs would have done."""
    from cluster.connect import connect
    from pipelines import calibrate
    from pipelines.score import ScoreProgress
    from stagebeam.model_search import load_with_search

    config = load_with_search(calibrate.CalibrateConfig, file, overrides)
    console = output_console()
    with progress(console, "Calibrate") as update:

        def on_progress(news: ScoreProgress) -> None:
            update(news.done, news.total, "questions")

        with connect(ray) if ray is not None else nullcontext():
            summary = calibrate.run_calibration(config, on_progress)
    found = summary.calibration
    print_table(console, f"Scores by {found.expected.scorer.value}", calibrate.stages_table(found))
    print_table(console, "Cutoffs, after one round", calibrate.effects_table(found))
    if found.right_above_wrong is not None:
        console.print(f"A right reasoning scores above a wrong one in {found.right_above_wrong:.0%} of the cases.")
    for warning in summary.warnings:
        console.print(f"Warning: {warning}", markup=False)
    console.print(f"Cutoff {found.cutoff:.4g} → {summary.file}", markup=False)


def run_evaluate(file: Path | None, overrides: Sequence[str]) -> None:
    """See ``pipelines.evaluate`` and ``pipelines.report``; prints the table."""
    from pipelines import compare
    from pipelines.evaluate import EvaluateConfig, run_evaluation
    from pipelines.report import ReportData, write_report

    config = load_config(EvaluateConfig, file, overrides)
    console = output_console()
    evaluation = run_evaluation(config)
    report = write_report(
        Path(config.output) / "report.html", ReportData(title="stagebeam evaluation", evaluation=evaluation)
    )
    print_table(console, "Results", compare.console_table(evaluation), droppable=("judge", "p", "steps"))
    verdicts = compare.counts_table(evaluation)
    if verdicts.rows:
        print_table(console, "Verdicts", verdicts)
    console.print(f"Report: {report}", markup=False)


def run_judge_check(file: Path | None, overrides: Sequence[str]) -> None:
    """See ``pipelines.judge_run``; prints the table."""
    from pipelines import compare
    from pipelines.judge_run import REPORT_FILE, JudgeRunConfig
    from pipelines.judge_run import run_judge_check as measure

    config = load_config(JudgeRunConfig, file, overrides)
    console = output_console()
    with progress(console, "Judge") as update:
        reports = measure(config, update)
    print_table(
        console, "The judge on right and wrong answers", compare.judge_table(reports), droppable=compare.JUDGE_DETAILS
    )
    console.print(f"Figures: {Path(config.output) / REPORT_FILE}", markup=False)
