"""What the launcher and the workers agree on; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from train.config import TrainConfig
from train.schedule import Plan

HISTORY_FILE = "history.json"
MODEL_FOLDER = "model"
CHECKPOINT_FOLDER = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """What a worker is sent. ``board`` is the handle of the ProgressBoard actor; the config's paths are absolute."""

    config: TrainConfig
    plan: Plan
    use_gpu: bool
    board: Any
