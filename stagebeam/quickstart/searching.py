"""Step 4: every model answers the held-out questions offline, each in its ways."""

from __future__ import annotations

from pipelines.score import ScoreProgress, run_scoring
from pipelines.score_config import ScoreConfig
from reasoning.search.config import SearchConfig
from stagebeam.console import Update, duration
from stagebeam.quickstart.config import DIRECT_SEARCH
from stagebeam.quickstart.run import QuickstartRun, StepRecord

SHARDS_AN_ACTOR = 3
"""Shards of one search for each actor: few enough to fill the engine's batches, enough to see progress."""


def work(run: QuickstartRun, update: Update) -> StepRecord:
    """Scores the models one after another; finished shards of an interrupted run are kept."""
    lines = []
    for label in run.labels:
        config = score_config(run, label)

        def on_progress(news: ScoreProgress, label: str = label) -> None:
            share = f" · {news.correct / news.graded:.0%} right" if news.graded else ""
            update(news.done, news.total, f"{label} model · {news.search}{share}")

        update(0, 0, f"{label} model · loading")
        summary = run_scoring(config, on_progress)
        ways = ", ".join(config.searches)
        errors = sum(summary.errors.values())
        lines.append(
            f"{label} model: {summary.answers:,} answers ({ways}) in {duration(summary.seconds)}"
            + (f", {errors} rows failed" if errors else "")
        )
    return StepRecord(lines=tuple(lines))


def score_config(run: QuickstartRun, label: str) -> ScoreConfig:
    """The scoring run of one model."""
    actors = run.config.scoring_actors
    return ScoreConfig(
        input=str(run.test_questions),
        output=str(run.answers(label)),
        model=str(run.model(label)),
        searches=searches_of(run, label),
        actors=actors,
        shard_questions=-(-run.config.test_questions // (actors * SHARDS_AN_ACTOR)),
    )


def searches_of(run: QuickstartRun, label: str) -> dict[str, SearchConfig]:
    """How a model is asked: in stages if it was taught them, else for the answer alone."""
    return dict(run.config.searches) if label == "four-stage" else {"direct": DIRECT_SEARCH}
