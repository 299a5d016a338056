"""A trained DeepSpeed engine to a folder in the Hugging Face layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

_PARTIAL = ".partial-model"


def export_model(engine: Any, processor: Any, folder: Path) -> None:
    """Write weights, config, processor and chat template under ``folder``; every worker calls this.

    Rank 0 writes beside ``folder`` and renames at the end, so the folder is whole when it exists.
    Under ZeRO-3 the parameters are gathered layer by layer into rank 0's memory.
    """
    state = _state_dict(engine)
    if torch.distributed.get_rank() == 0:
        partial = folder.with_name(_PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        engine.module.save_pretrained(partial, state_dict=state)
        processor.save_pretrained(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    torch.distributed.barrier()


def is_exported(folder: Path) -> bool:
    """Whether a finished export lies there."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _state_dict(engine: Any) -> dict[str, torch.Tensor] | None:
    """The whole state on rank 0; collective under ZeRO-3."""
    if engine.zero_optimization_partition_weights():
        return engine._zero3_consolidated_16bit_state_dict()
    return dict(engine.module.state_dict())
