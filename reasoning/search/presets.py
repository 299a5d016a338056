"""Searches with a name: what ``preset: NAME`` stands for wherever a search is configured.

A preset says how is searched: strategy, sizes, selector, temperature. What belongs to a model or to
a request (the wording of judge prompts, token limits, a fitted cutoff, seed, deadline, budget) it leaves alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from reasoning.errors import ConfigError
from reasoning.search.config import Pairing, SearchConfig, SelectorKind, Strategy


class Preset(StrEnum):
    DEFAULT = "default"
    """What a search that names nothing does."""
    PAPER = "paper"
    """Stage-level beam search as published (arXiv 2411.10440), its faults corrected; docs/search.md lists them."""


PRESET = "preset"
"""The key under which a preset is named."""
_SETTLED = (
    "strategy", "samples", "width", "samples_by_stage", "width_by_stage", "subtrees", "selector", "scorer",
    "stop_on_agreement", "judge_both_orders", "pairing", "unreadable_verdict", "check_reasoning",
)  # fmt: skip
_SETTLED_SAMPLING = ("temperature", "top_p")


def paper_search(samples: int = 4, seed: int = 0) -> SearchConfig:
    """The published search with each of its faults corrected: knockout of random pairs, verdicts in writing,
    reasonings checked against their captions, temperature 0.6, top_p 0.9.
    """
    return SearchConfig(
        strategy=Strategy.STAGE_BEAM,
        samples=samples,
        width=1,
        selector=SelectorKind.JUDGE_TEXT,
        pairing=Pairing.RANDOM_PAIRS,
        check_reasoning=True,
        seed=seed,
    )


def preset_fields(preset: Preset) -> dict[str, Any]:
    """The fields of ``SearchConfig`` that ``preset`` settles; of ``sampling`` a mapping of its own such fields."""
    search = paper_search() if preset is Preset.PAPER else SearchConfig()
    sampling = {name: getattr(search.sampling, name) for name in _SETTLED_SAMPLING}
    return {**{name: getattr(search, name) for name in _SETTLED}, "sampling": sampling}


def with_preset(values: Any) -> Any:
    """``values`` without its ``preset``, the fields of which lie under those that ``values`` gives itself.

    Anything without a preset, and anything but a mapping, comes back as it is. Raises ConfigError for
    an unknown one.
    """
    if not isinstance(values, Mapping) or PRESET not in values:
        return values
    given = {name: value for name, value in values.items() if name != PRESET}
    named = values[PRESET]
    if named is None:
        return given
    if named not in list(Preset):
        raise ConfigError(f"SearchConfig.preset is {named!r}; there are {', '.join(Preset)}")
    fields = preset_fields(Preset(named))
    if isinstance(given.get("sampling"), Mapping):
        given["sampling"] = {**fields["sampling"], **given["sampling"]}
    return {**fields, **given}
