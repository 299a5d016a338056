"""Which checkpoints on disk are whole, and which is the newest.

A checkpoint is a folder ``step_00000120`` to which every worker has added its DeepSpeed files and,
in ``rank_<n>.json``, their names and sizes. It counts when all workers' lists are there and hold.
Ray Train's own record may lack a checkpoint whose workers died just after writing it; this does not.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

TAG = "deepspeed"
_PREFIX = "step_"


def checkpoint_name(step: int) -> str:
    """The folder's name; names sort as steps do."""
    return f"{_PREFIX}{step:08d}"


def write_marker(folder: Path, *, rank: int, workers: int) -> None:
    """List all that a worker has put under ``folder``; called when it has written its last file."""
    files = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / f"rank_{rank}.json").write_text(json.dumps({"workers": workers, "files": files}), encoding="utf-8")


def is_complete(folder: Path) -> bool:
    """Whether every worker's files are there in their full size."""
    first = _marker(folder, 0)
    if first is None:
        return False
    markers = [first, *(_marker(folder, rank) for rank in range(1, first["workers"]))]
    return all(marker is not None and _holds(folder, marker["files"]) for marker in markers)


def complete_checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints under ``folder``, oldest first."""
    return [path for path in sorted(folder.glob(f"{_PREFIX}*")) if path.is_dir() and is_complete(path)]


def keep_newest(folder: Path, count: int) -> None:
    """Remove all checkpoints but the newest ``count`` whole ones; for a run that has ended."""
    kept = set(complete_checkpoints(folder)[-count:])
    for path in folder.glob(f"{_PREFIX}*"):
        if path not in kept:
            shutil.rmtree(path)


def _marker(folder: Path, rank: int) -> dict[str, Any] | None:
    try:
        marker = json.loads((folder / f"rank_{rank}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Not written yet, or cut short by the death of its writer: either way not whole.
        return None
    return marker if isinstance(marker, dict) else None


def _holds(folder: Path, files: dict[str, int]) -> bool:
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in files.items())
