"""Scoring with a reward model of its own in each actor, a fitted cutoff and a warning when scores drift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.rewards.calibration import read_calibration, write_calibration
from actors.rewards.config import RewardConfig, RewardKind
from actors.rewards.tiny import build_tiny_reward
from pipelines.answers import committed_files, read_answers
from pipelines.calibrate import CalibrateConfig, run_calibration
from pipelines.schemas import write_questions
from pipelines.score import run_scoring
from pipelines.score_config import ScoreConfig
from reasoning.errors import OutputMismatchError
from reasoning.protocols import ContinuationRequest, Engine
from reasoning.records import AnswerType, Question
from reasoning.search.config import Retrace, ScorerKind, SearchConfig, SelectorKind, Strategy
from reasoning.stages import FourStages, Stage, render_stage
from reasoning.testing import ScriptedEngine
from reasoning.trace import Trace

pytestmark = pytest.mark.usefixtures("ray_local")

WEIGHTED = SearchConfig(
    strategy=Strategy.BEST_OF_N, samples=3, selector=SelectorKind.WEIGHTED_VOTE, scorer=ScorerKind.REWARD
)
RETRACE = SearchConfig(
    strategy=Strategy.SWIRES, scorer=ScorerKind.RATING, retrace=Retrace(captions=2, kept=1, rounds=1)
)


def scripted() -> Callable[[Any], Engine]:
    """A builder of an engine whose texts differ by seed; closures only, since a worker cannot import this file."""

    def write(request: ContinuationRequest, index: int) -> str:
        mark = str(request.seeds[index] % 97)
        if request.stage is None:
            return FourStages(summary="Count.", caption="Cubes.", reasoning=mark, conclusion=str(index)).render()
        return render_stage(request.stage, "2" if request.stage is Stage.CONCLUSION else f"Cubes {mark}.")

    def build(_config: Any) -> Engine:
        return ScriptedEngine(write, rate=lambda text: sum(map(ord, text)) % 13 / 3 - 2)

    return build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    questions = [
        Question(id=f"q{i}", question=f"How many in scene {i}?", answer="2", answer_type=AnswerType.NUMBER, split="val")
        for i in range(20)
    ]
    write_questions(tmp_path / "questions", questions)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path


def config_for(folder: Path, **changes: Any) -> ScoreConfig:
    settings: dict[str, Any] = {
        "input": str(folder / "questions"),
        "output": str(folder / "scored"),
        "model": str(folder / "model"),
        "cpus_per_actor": 0.5,
    }
    return ScoreConfig(**(settings | changes))


def test_a_reward_model_weighs_votes_offline(folder: Path) -> None:
    build_tiny_reward(folder / "reward")
    reward = RewardConfig(kind=RewardKind.SEQUENCE_CLASSIFICATION, model=str(folder / "reward"))
    config = config_for(folder, searches={"weighted": WEIGHTED}, reward=reward)
    summary = run_scoring(config, build_engine=scripted())
    assert (summary.answers, sum(summary.errors.values())) == (20, 0)
    answers = list(read_answers(committed_files(folder / "scored")["weighted"]))
    assert all(answer.ledger.reward_tokens > 0 for answer in answers)
    assert len({answer.conclusion for answer in answers}) > 1, "the reward model decides, not the votes"
    build_tiny_reward(folder / "reward", seed=1)
    with pytest.raises(OutputMismatchError, match=r"reward\.model"):
        run_scoring(config, build_engine=scripted())


def test_a_cutoff_is_fitted_taken_and_watched(folder: Path) -> None:
    fitted = run_calibration(
        CalibrateConfig(
            input=str(folder / "questions"),
            output=str(folder / "calibration"),
            model=str(folder / "model"),
            cpus_per_actor=0.5,
            search=RETRACE,
        ),
        build_engine=scripted(),
    )
    assert read_calibration(fitted.file) == fitted.calibration
    assert fitted.calibration.expected.count == 40
    assert fitted.calibration.splits == {"val": 20}
    at_share = [one for one in fitted.calibration.effects if one.share == 0.6]
    assert at_share[0].cutoff == fitted.calibration.cutoff

    config = config_for(folder, searches={"retrace": RETRACE}, calibration=fitted.file)
    summary = run_scoring(config, build_engine=scripted())
    assert summary.warnings == ()
    traces = [Trace.from_json(a.trace or "") for a in read_answers(committed_files(folder / "scored")["retrace"])]
    scores = [one.score for trace in traces for one in trace.candidates if one.stage is Stage.REASONING]
    below = sum(score is not None and score <= fitted.calibration.cutoff for score in scores)
    assert below == pytest.approx(0.6 * 40, abs=4), "scores repeat, so the share is met but for equal ones"

    expected = fitted.calibration.expected
    elsewhere = replace(expected, mean=expected.mean + 2 * expected.std)
    other = fitted.calibration.model_copy(update={"expected": elsewhere, "made_with": {"model": "another"}})
    write_calibration(folder / "other.json", other)
    drifted = config_for(
        folder, searches={"retrace": RETRACE}, calibration=folder / "other.json", output=str(folder / "again")
    )
    model, drift = run_scoring(drifted, build_engine=scripted()).warnings
    assert "fitted with another" in model
    assert f"the cutoff was fitted on {elsewhere.mean:.4g}" in drift
