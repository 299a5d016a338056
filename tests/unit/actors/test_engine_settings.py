"""From the flat fields of a run's configuration to the settings of its engine."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from actors.engines.config import EngineKind, TransformersEngineConfig, TransformersSettings, engine_config


def test_what_the_transformers_engine_is_told_reaches_it() -> None:
    told = TransformersSettings(prefix_cache_bytes=5, image_cache_bytes=6, max_rows=7, compile=True)
    made = engine_config(EngineKind.TRANSFORMERS, model="m", dtype="bfloat16", threads=2, transformers=told)
    assert made == TransformersEngineConfig(
        model="m",
        dtype="bfloat16",
        threads=2,
        prefix_cache_bytes=5,
        image_cache_bytes=6,
        max_rows=7,
        compile=True,
    )


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="device_map"):
        TransformersSettings.model_validate({"device_map": "auto"})
