"""Commands that ask an endpoint instead of loading a model, and settings that name no engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from endpoint_server import MODEL, Peer, serving
from PIL import Image

from pipelines.judge_run import JudgeRunConfig
from reasoning.errors import ConfigError, EngineError
from reasoning.stages import FourStages
from reasoning.testing import ScriptedEngine, reciting
from stagebeam.asking import AskConfig, run_ask
from stagebeam.settings import load_config

ANSWER = FourStages(summary="Count.", caption="3 cubes.", reasoning="1, 2, 3.", conclusion="3").render()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def ask(image: Path, *overrides: str) -> None:
    run_ask(None, overrides, image, "How many?", (), stages=False, trace=None, url=None, model=None)


def test_ask_takes_an_endpoint(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = ScriptedEngine(reciting(ANSWER), prefer=lambda first, second: 0.0)
    with serving(Peer(engine=engine)) as peer:
        ask(image, "engine=openai", f"openai.base_url={peer.url}", f"openai.model={MODEL}", "search.samples=2")
    assert capsys.readouterr().out.strip() == "3"
    assert peer.bodies[0]["model"] == MODEL


def test_an_endpoint_that_is_not_there_is_said(image: Path) -> None:
    with pytest.raises(EngineError, match="gave no readable answer"):
        ask(
            image,
            "engine=openai",
            "openai.base_url=http://127.0.0.1:9/v1",
            "openai.model=m",
            "openai.max_retries=0",
            "search.samples=1",
        )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["engine=openai"], "there is no endpoint"),
        (["openai.base_url=http://h/v1", "openai.model=m", "model=m"], "set engine to openai"),
        ([], "there is no model"),
        (["engine=vlm", "model=m"], "engine"),
    ],
)
def test_an_engine_without_what_it_needs_is_refused(overrides: list[str], words: str) -> None:
    given = ["results=r", "input=i", "output=o", *overrides]
    with pytest.raises(ConfigError, match=words):
        load_config(JudgeRunConfig, None, given)


def test_the_search_kept_beside_a_local_model_is_not_an_endpoints() -> None:
    config = load_config(AskConfig, None, ["engine=openai", "openai.base_url=http://h/v1", "openai.model=m"])
    assert config.openai is not None
    assert config.search.prompt_style.value == "standard"
