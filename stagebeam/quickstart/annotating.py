"""Step 1: draw scenes, have the stand-in teacher annotate their questions, make training rows."""

from __future__ import annotations

from actors.teacher import TeacherConfig
from pipelines.annotate import run_annotation
from pipelines.annotate_config import AnnotateConfig
from pipelines.annotation_totals import AnnotateProgress, AnnotationSummary
from pipelines.schemas import write_questions
from stagebeam.console import Update
from stagebeam.quickstart.run import QuickstartRun, StepRecord
from stagebeam.standin.process import StandIn, start_standin
from stagebeam.training_rows import describe, export_rows
from stagebeam.world.dataset import make_questions


def work(run: QuickstartRun, update: Update) -> StepRecord:
    """Questions, annotations and training rows; the stand-in ends with the step."""
    update(0, 0, "drawing scenes")
    for folder, count, split in (
        (run.train_questions, run.config.train_questions, "train"),
        (run.test_questions, run.config.test_questions, "test"),
    ):
        write_questions(folder, make_questions(count, seed=run.config.seed, split=split))
    update(0, 0, "starting the stand-in teacher")
    with start_standin(run.config.teacher) as standin:
        summary = run_annotation(_config(run, standin), lambda news: update(news.done, news.rows, _detail(news)))
    update(summary.rows, summary.rows, "writing training rows")
    return StepRecord(
        lines=(_line(summary), *_write_rows(run)),
        facts={
            "counts": {
                "teacher": f"{standin.model} (a stand-in)",
                "accepted": summary.accepted,
                "rejected": summary.rejected,
                "retries": summary.attempts + summary.call_retries,
                "prompt_tokens": summary.prompt_tokens,
                "generated_tokens": summary.generated_tokens,
            }
        },
    )


def _config(run: QuickstartRun, standin: StandIn) -> AnnotateConfig:
    return AnnotateConfig(
        input=str(run.train_questions),
        output=str(run.annotations),
        teacher=TeacherConfig(base_url=standin.base_url, model=standin.model),
        with_judgements=True,
    )


def _detail(news: AnnotateProgress) -> str:
    rejected = sum(news.rejected.values())
    return f"{news.accepted:,} accepted · {rejected:,} rejected · {news.attempts + news.call_retries} retries"


def _line(summary: AnnotationSummary) -> str:
    reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in summary.rejected.items())
    return (
        f"{summary.rows:,} questions: {summary.accepted:,} accepted ({summary.repaired} after another attempt), "
        f"{sum(summary.rejected.values()):,} rejected"
        + (f" ({reasons})" if reasons else "")
        + f"; {summary.call_retries} calls repeated"
    )


def _write_rows(run: QuickstartRun) -> tuple[str, ...]:
    summaries = export_rows(run.annotations, run.folder / "rows", judgements=run.config.judgements)
    return tuple(describe(name, summary) for name, summary in summaries.items())
