"""Judges measured on a score run's own right and wrong answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from annotation_cases import QUESTION

from actors.rewards.config import RewardConfig, RewardKind
from actors.rewards.tiny import build_tiny_reward
from cluster.storage import Commit, RunFolder
from pipelines.answers import RESULTS, SCORE_KIND, question_columns, table_of
from pipelines.judge_check import JudgeCheckConfig, JudgePair, score_check
from pipelines.judge_run import JudgeRunConfig, run_judge_check
from pipelines.schemas import write_questions, write_table
from reasoning.errors import ConfigError
from reasoning.protocols import StopReason
from reasoning.scorers import Rating
from reasoning.search.config import PromptStyle
from reasoning.stages import FourStages
from reasoning.testing import ScriptedEngine
from reasoning.trace import Candidate, Trace


def measured(rate: dict[str, float]) -> tuple[float, int, int]:
    engine = ScriptedEngine(rate=lambda text: rate[text])
    pairs = [JudgePair(question=QUESTION, stage=None, better=text, worse="flawed") for text in ("good", "so so", "odd")]
    config = JudgeCheckConfig(prompt_style=PromptStyle.COMPACT)
    report = asyncio.run(score_check(pairs, Rating(engine, style=PromptStyle.COMPACT), config))
    assert report.mode == "rating"
    return report.overall.accuracy.value, report.overall.undecided, report.overall.unreadable


def test_the_higher_rating_is_the_verdict_and_equal_ratings_are_none() -> None:
    assert measured({"good": 2.0, "so so": 1.0, "odd": 1.0, "flawed": 1.0}) == (1 / 3, 2, 0)
    assert measured({"good": 2.0, "so so": 0.0, "odd": float("nan"), "flawed": 1.0}) == (1 / 3, 1, 2)


def test_a_reward_model_is_measured_like_a_judge_and_needs_none(tmp_path: Path) -> None:
    build_tiny_reward(tmp_path / "reward")
    write_run(tmp_path)
    config = JudgeRunConfig(
        results=str(tmp_path / "scored"),
        input=str(tmp_path / "questions"),
        output=str(tmp_path / "check"),
        ways=("reward",),
        reward=RewardConfig(kind=RewardKind.SEQUENCE_CLASSIFICATION, model=str(tmp_path / "reward")),
    )
    [report] = run_judge_check(config)
    assert (report.model, report.mode, report.overall.pairs) == ("reward", "reward", 1)
    assert report.overall.undecided == 0
    with pytest.raises(ConfigError, match="no reward model is configured"):
        JudgeRunConfig(results="r", input="q", output="o", ways=("reward",))


def write_run(folder: Path) -> None:
    """A run folder with one question and two answers to it, one of them right."""
    right = QUESTION.answer or ""
    texts = [
        FourStages(summary="s", caption="c", reasoning="r", conclusion=said).render() for said in (right, "neither")
    ]
    trace = Trace(
        question_id=QUESTION.id,
        strategy="best_of_n",
        candidates=tuple(
            Candidate(
                id=f"S1.{number}",
                parent=None,
                stage=None,
                text=text,
                stop=StopReason.EOS,
                tokens=9,
                logprob=-1.0,
                seed=1,
            )
            for number, text in enumerate(texts)
        ),
    )
    write_questions(folder / "questions", [QUESTION])
    row = question_columns(QUESTION) | {"search": "best", "strategy": "best_of_n", "trace": trace.to_json()}
    with RunFolder(folder / "scored", kind=SCORE_KIND, identity={"search_order": ["best"]}) as run:
        path = folder / "scored" / RESULTS / "best" / "part-00000.parquet"
        path.parent.mkdir(parents=True)
        write_table(path, table_of([row]))
        run.commit(Commit(key="best-0", files=(f"{RESULTS}/best/part-00000.parquet",), counts={"rows": 1}))
