"""A tiny random Llama-3.2-Vision, loaded once, and pictures to show it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_cases import EngineFactory

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from actors.engines.tiny import build_tiny_mllama
from actors.engines.transformers_engine import TransformersEngine, TransformersEngineConfig

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_mllama")
    build_tiny_mllama(folder)
    return folder


@pytest.fixture(scope="session")
def model(model_dir: Path) -> Any:
    """The model itself, without any engine: what the engine is compared with."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(model_dir, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def processor(model_dir: Path) -> Any:
    from actors.chat import load_processor

    return load_processor(model_dir)


@pytest.fixture
def make_engine(model_dir: Path) -> Iterator[EngineFactory]:
    """Engines that begin with nothing cached and are closed after the test."""
    made: list[TransformersEngine] = []

    def build(**settings: Any) -> TransformersEngine:
        made.append(TransformersEngine(TransformersEngineConfig(model=str(model_dir), **settings)))
        return made[-1]

    yield build
    for engine in made:
        engine.close()
