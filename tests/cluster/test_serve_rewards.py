"""A service with a reward pool: a real reward model in a deployment of its own, asked over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.rewards.calibration import Calibration, write_calibration
from actors.rewards.config import RewardConfig, RewardKind
from actors.rewards.tiny import build_tiny_reward
from reasoning.calibration import CutoffMethod
from reasoning.search.config import ScorerKind, ScoreSpread, SearchConfig
from reasoning.stages import Stage
from serve.client import ask
from serve.config import EngineKind, ServeConfig, Topology
from serve.launch import run_serving


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def url(ray_local: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("reward")
    build_tiny_reward(folder / "model", labels=2)
    write_calibration(folder / "calibration.json", never_good_enough())
    config = ServeConfig(
        model=Path("none"),
        engine=EngineKind.SCRIPTED,
        topology=Topology.SHARED,
        port=free_port(),
        reward=RewardConfig(kind=RewardKind.SEQUENCE_CLASSIFICATION, model=str(folder / "model")),
        search=SearchConfig(scorer=ScorerKind.REWARD),
        calibration=folder / "calibration.json",
    )
    with run_serving(config) as base_url:
        yield base_url


def never_good_enough() -> Calibration:
    """A cutoff that no score reaches."""
    return Calibration(
        cutoff=1e9,
        share=0.6,
        method=CutoffMethod.QUANTILE,
        expected=ScoreSpread(scorer=ScorerKind.REWARD, count=500, mean=1.5, std=1.0),
        stages={},
        effects=(),
        right_above_wrong=None,
        questions=250,
        splits={"val": 250},
        made_with={},
        search={},
    )


def test_the_reward_model_chooses_and_its_tokens_are_counted(url: str) -> None:
    voted = ask(
        url,
        None,
        "Is there a circle?",
        strategy="best_of_n",
        samples=3,
        selector="weighted_vote",
        scorer="reward",
        include_trace=True,
    )
    assert voted.conclusion in ("no", "yes, it is")
    assert voted.ledger.reward_tokens > 0
    assert voted.trace is not None
    staged = ask(url, None, "Is there a circle?", samples=2, selector="score", scorer="reward", include_trace=True)
    assert staged.trace is not None
    assert staged.trace.notes == ()
    # The scripted engine goes on from either summary in one way only, so only summaries are scored.
    scores = {one.id: one.score for one in staged.trace.candidates if one.score is not None}
    assert len(scores) == 2
    assert max(scores, key=lambda name: scores[name]) == staged.trace.chosen[0]


def test_retracing_asks_the_pool_by_the_files_cutoff_and_repeats_itself(url: str) -> None:
    first, again = (ask(url, None, "Is there a circle?", strategy="swires", include_trace=True) for _ in range(2))
    assert first.trace is not None
    assert first.trace == again.trace
    assert first.ledger.reward_tokens == again.ledger.reward_tokens > 0
    assert sum(one.stage is Stage.CAPTION for one in first.trace.candidates) == 3 * 4, "all three rounds were drawn"
