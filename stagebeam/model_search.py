"""How a model wants to be asked: a search beside its weights, used unless the settings say otherwise.

A small model is trained on one wording of the judge's prompts and a short context; the file keeps
that with the model, as ``generation_config.json`` keeps its sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from cluster.storage import read_json, write_json_atomic
from reasoning.search.config import SearchConfig
from reasoning.search.presets import with_preset
from stagebeam.settings import build_config, load_config

T = TypeVar("T")

SEARCH_FILE = "search_config.json"
DEFAULT_MODEL = Path("runs/quickstart/training/four-stage/model")
"""Where the quickstart leaves its four-stage model."""


def write_search(model: Path, search: SearchConfig) -> None:
    """Keep ``search`` with the model in folder ``model``."""
    write_json_atomic(model / SEARCH_FILE, asdict(search))


def read_search(model: Path) -> dict[str, Any]:
    """The fields of the search kept with a model; empty when there is none. Raises ConfigError when it is broken."""
    path = model / SEARCH_FILE
    if not path.is_file():
        return {}
    search = build_config(SearchConfig, read_json(path), source=str(path))
    return asdict(search)


def load_with_search(cls: type[T], file: Path | None, overrides: Sequence[str]) -> T:
    """As ``load_config``, for a class with ``model`` and ``search``; the model's own search lies under the settings.

    A preset in the settings lies over the model's search, whose wording and token limits stay. The model
    behind an endpoint has no search kept here.
    """
    first = load_config(cls, file, overrides)
    is_elsewhere = getattr(first, "openai", None) is not None
    model = None if is_elsewhere else getattr(first, "model", None)
    search = read_search(Path(model)) if model is not None else {}
    if not search:
        return first
    return load_config(cls, file, overrides, defaults={"search": search}, resolve=_with_preset_resolved)


def _with_preset_resolved(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "search": with_preset(values["search"])} if "search" in values else values
