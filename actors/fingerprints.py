"""What tells models apart: a run's answers, and a calibration's scores, belong to the models that gave them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pydantic import JsonValue

from actors.engines.config import EngineConfig, OpenAIEngineConfig, TransformersEngineConfig, VllmEngineConfig
from actors.rewards.config import RewardConfig, RewardKind
from reasoning.errors import InputError

_FINGERPRINT_BYTES = 2**20
_ENDPOINT_FIELDS = {"base_url", "model", "continuation", "max_choices", "logprobs", "extra_body"}
_SCORE_FIELDS = {"kind", "url", "label", "join", "step_separator", "dtype", "max_tokens", "form", "with_image"}


def models_of(*, engine: EngineConfig, judge: EngineConfig | None, reward: RewardConfig | None) -> dict[str, JsonValue]:
    """What answers, judges and scores; raises InputError where a model's folder is not there."""
    return {
        "model": _engine_identity(engine),
        "dtype": None if isinstance(engine, OpenAIEngineConfig) else engine.dtype,
        "judge_model": None if judge is None else _engine_identity(judge),
        "reward": None if reward is None else _reward_identity(reward),
    }


def _engine_identity(engine: EngineConfig) -> JsonValue:
    """What an engine's answers depend on. What lies behind an endpoint's name is the endpoint's affair."""
    match engine:
        case TransformersEngineConfig():
            return model_fingerprint(Path(engine.model))
        case VllmEngineConfig():
            folder = Path(engine.model)
            return {"engine": "vllm", "model": model_fingerprint(folder) if folder.is_dir() else engine.model}
        case OpenAIEngineConfig():
            return {"engine": "openai", **engine.model_dump(mode="json", include=_ENDPOINT_FIELDS)}


def _reward_identity(reward: RewardConfig) -> JsonValue:
    """What its scores depend on, not where or how fast."""
    named = reward.model
    is_folder = reward.kind is not RewardKind.HTTP and named is not None and Path(named).is_dir()
    fields = reward.model_dump(mode="json", include=_SCORE_FIELDS)
    return {**fields, "model": model_fingerprint(Path(named)) if is_folder and named is not None else named}


def model_fingerprint(folder: Path) -> str:
    """A hash over the model's files: names, sizes, and the first and last MiB of each.

    Raises InputError where there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no model folder; `train` writes one")
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}\x1f{size}\x1f".encode())
        with open(path, "rb") as file:
            digest.update(file.read(_FINGERPRINT_BYTES))
            if size > 2 * _FINGERPRINT_BYTES:
                file.seek(-_FINGERPRINT_BYTES, os.SEEK_END)
            digest.update(file.read(_FINGERPRINT_BYTES))
    return digest.hexdigest()[:16]
