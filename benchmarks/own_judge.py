"""Train a judge on a model's own answers: what ``search_quality --judge`` takes.

``python -m benchmarks.own_judge`` draws questions that nothing else uses, has the model answer each
several times, makes judgements of right answers against wrong ones and trains a copy of the model on
them. The same three steps as commands: ``stagebeam score --export-judgements``, ``stagebeam train``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pipelines.own_judgements import export_own_judgements
from pipelines.schemas import write_questions
from pipelines.score import ScoreProgress, run_scoring
from pipelines.score_config import ScoreConfig
from reasoning.protocols import Sampling
from reasoning.search.config import PromptStyle, SearchConfig, Strategy
from stagebeam.world.dataset import make_questions
from train.config import TrainConfig
from train.launch import run_training
from train.progress import TrainProgress

SPLIT = "own"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/quickstart/training/four-stage/model"))
    parser.add_argument("--questions", type=int, default=6000)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("runs/own-judge"))
    given = parser.parse_args()
    asked = given.output / "questions"
    if not asked.exists():
        write_questions(asked, make_questions(given.questions, seed=0, split=SPLIT))
    # Warmer than a search draws: more of the mistakes that it has to be told apart from.
    sampling = Sampling(temperature=0.9, top_p=0.95, max_new_tokens=320)
    own = SearchConfig(
        strategy=Strategy.SELF_CONSISTENCY,
        samples=given.samples,
        prompt_style=PromptStyle.COMPACT,
        sampling=sampling,
    )
    scores = ScoreConfig(
        input=str(asked), output=str(given.output / "answers"), model=str(given.model), actors=2, searches={"own": own}
    )
    print(run_scoring(scores, _told))
    print(export_own_judgements(given.output / "answers", asked, given.output / "rows"))
    training = TrainConfig(
        model=given.model,
        data=(given.output / "rows",),
        output=given.output / "training",
        batch_size_per_worker=8,
        learning_rate=6e-4,
    )
    print(run_training(training, _trained))
    print(f"The judge: {given.output / 'training' / 'model'}")


def _told(news: ScoreProgress) -> None:
    print(f"{news.done} of {news.total} answered, {news.correct} right", flush=True)


def _trained(news: TrainProgress) -> None:
    print(f"step {news.step} of {news.total_steps}, loss {news.loss:.3f}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
