"""``ask`` with a reward model, a judge of its own and a calibration file."""

from __future__ import annotations

from pathlib import Path

import pytest
from endpoint_server import MODEL, Peer, serving
from PIL import Image

from actors.rewards.tiny import build_tiny_reward
from reasoning.errors import ConfigError, InputError
from reasoning.stages import FourStages
from reasoning.testing import ScriptedEngine, reciting
from stagebeam.asking import AskConfig, run_ask
from stagebeam.settings import load_config

ANSWERS = [
    FourStages(summary="Count.", caption=f"{n} cubes.", reasoning=f"1 to {n}.", conclusion=str(n)).render()
    for n in (3, 4)
]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def ask(peer: Peer, image: Path, *overrides: str) -> None:
    given = ["engine=openai", f"openai.base_url={peer.url}", f"openai.model={MODEL}", *overrides]
    run_ask(None, given, image, "How many?", (), stages=False, trace=None, url=None, model=None)


def test_a_reward_model_picks_the_answer(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_tiny_reward(tmp_path / "reward", labels=2)
    settings = ["search.strategy=best_of_n", "search.samples=2", "search.selector=score", "search.scorer=reward"]
    reward = ["reward.kind=sequence_classification", f"reward.model={tmp_path / 'reward'}"]
    picked = []
    for label in (0, 1):
        with serving(Peer(engine=ScriptedEngine(reciting(*ANSWERS)))) as peer:
            ask(peer, image, *settings, *reward, f"reward.label={label}")
        picked.append(capsys.readouterr().out.strip())
    assert sorted(picked) == ["3", "4"], "what one label's log-odds prefer the other's do not"


def test_another_model_may_judge(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = ScriptedEngine(reciting(*ANSWERS), prefer=lambda first, second: float(second > first))
    with serving(Peer(engine=engine)) as peer:
        ask(
            peer,
            image,
            "search.strategy=best_of_n",
            "search.samples=2",
            "search.selector=judge_logprob",
            "judge_model=judge-7b",
        )
    assert capsys.readouterr().out.strip() in ("3", "4")
    assert [body["model"] for body in peer.bodies] == [MODEL, "judge-7b", "judge-7b"]


def test_what_is_missing_is_refused_before_anything_is_asked(image: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none is configured"):
        load_config(AskConfig, None, ["search.strategy=swires", "search.scorer=reward"])
    engine = ScriptedEngine(reciting(*ANSWERS))
    with serving(Peer(engine=engine)) as peer, pytest.raises(InputError, match=r"none\.json"):
        ask(peer, image, f"calibration={tmp_path / 'none.json'}")
    assert peer.bodies == []
