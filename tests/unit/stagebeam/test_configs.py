"""Every shipped YAML is what its command reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.annotate import AnnotateConfig
from pipelines.calibrate import CalibrateConfig
from pipelines.decontaminate import DecontaminateConfig
from pipelines.evaluate import EvaluateConfig
from pipelines.exports.config import ExportConfig
from pipelines.judge_run import JudgeRunConfig
from pipelines.score_config import ScoreConfig
from pipelines.sources.mix import MixConfig
from serve.config import ServeConfig
from stagebeam.asking import AskConfig
from stagebeam.quickstart.config import QuickstartConfig
from stagebeam.settings import load_config
from train.config import TrainConfig

CONFIGS = Path(__file__).parents[3] / "configs"
CLASSES = {
    "annotate": AnnotateConfig,
    "ask": AskConfig,
    "calibrate": CalibrateConfig,
    "decontaminate": DecontaminateConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "judge-check": JudgeRunConfig,
    "mix-llava-cot-100k": MixConfig,
    "quickstart": QuickstartConfig,
    "score": ScoreConfig,
    "score-endpoint": ScoreConfig,
    "serve": ServeConfig,
    "train": TrainConfig,
}


def test_every_shipped_file_has_its_class() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_shipped_file_is_read(name: str) -> None:
    assert isinstance(load_config(CLASSES[name], CONFIGS / f"{name}.yaml"), CLASSES[name])


def test_shipped_quickstart_shows_the_defaults() -> None:
    assert load_config(QuickstartConfig, CONFIGS / "quickstart.yaml") == QuickstartConfig()
