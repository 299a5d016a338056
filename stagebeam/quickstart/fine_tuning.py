"""Step 2: fine-tune the four-stage model and, for comparison, one on answers alone."""

from __future__ import annotations

from pathlib import Path

from reasoning.errors import InputError
from stagebeam.console import Update, duration
from stagebeam.interrupts import handlers_kept
from stagebeam.model_search import write_search
from stagebeam.quickstart.config import FineTuning
from stagebeam.quickstart.run import QuickstartRun, StepRecord
from train.config import TrainConfig
from train.launch import run_training
from train.progress import TrainProgress, TrainSummary

WORKERS = 2


def work(run: QuickstartRun, update: Update) -> StepRecord:
    """Trains, exports, and keeps both loss curves."""
    if not (run.model("base") / "config.json").is_file():
        raise InputError(f"no base model at {run.model('base')}; name one with --set base_model=FOLDER")
    plans = [("four-stage", run.config.fine_tune)]
    if run.config.fine_tune_direct is not None:
        plans.append(("direct", run.config.fine_tune_direct))
    summaries = {label: _train(run, label, plan, update) for label, plan in plans}
    write_search(run.model("four-stage"), run.config.searches[run.config.demonstration])
    lines = tuple(_line(label, summary) for label, summary in summaries.items())
    curves = {label: [[step, loss] for step, loss in summary.losses] for label, summary in summaries.items()}
    return StepRecord(lines=lines, facts={"losses": curves})


def _train(run: QuickstartRun, label: str, plan: FineTuning, update: Update) -> TrainSummary:
    def on_progress(news: TrainProgress) -> None:
        detail = f"{label} model · loss {news.loss:.3f} · {news.samples_per_second:.0f} rows/s"
        update(news.step, news.total_steps, detail)

    update(0, 0, f"{label} model · starting {WORKERS} DeepSpeed workers")
    # Ray Train takes Ctrl-C for itself while it works.
    with handlers_kept():
        return run_training(_config(run, label, plan, run.rows(label)), on_progress)


def _config(run: QuickstartRun, label: str, plan: FineTuning, rows: Path) -> TrainConfig:
    return TrainConfig(
        model=run.model("base"),
        data=(rows,),
        output=run.training(label),
        workers=WORKERS,
        seed=run.config.seed,
        **plan.model_dump(),
    )


def _line(label: str, summary: TrainSummary) -> str:
    rows = sum(summary.rows.values())
    kinds = ", ".join(f"{count:,} {kind.replace('_', '-')}" for kind, count in sorted(summary.rows.items()))
    first, last = summary.losses[0][1], summary.losses[-1][1]
    return (
        f"{label} model: {rows:,} rows ({kinds}), {summary.steps} steps in {duration(summary.seconds)}, "
        f"loss {first:.3f} → {last:.3f}"
    )
