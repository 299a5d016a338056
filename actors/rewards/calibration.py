"""The file that ``stagebeam calibrate`` writes and searches take their cutoff from."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from cluster.storage import read_json, write_json_atomic
from reasoning.calibration import CutoffMethod, with_cutoff
from reasoning.errors import ConfigError, InputError
from reasoning.search.config import ScoreSpread, SearchConfig

_STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StageScores(BaseModel):
    """How the scores of one stage's candidates lay."""

    model_config = _STRICT

    count: int
    mean: float
    std: float
    quantiles: dict[str, float]
    """Share of the candidates, such as ``0.6``, to the score that so many do not exceed."""


class CutoffEffect(BaseModel):
    """What a search with this cutoff would have done after one round, on the questions it was fitted on."""

    model_config = _STRICT

    share: float
    """The share of reasonings that do not exceed the cutoff."""
    cutoff: float
    retraced: int
    """Questions of which the second best reasoning does not exceed it: there a further round is drawn."""
    questions: int
    graded_stopped: int
    """Questions with a known answer at which it would have stopped."""
    right_stopped: int
    """Of these, how many were answered rightly."""
    graded_retraced: int
    right_retraced: int


class Calibration(BaseModel):
    """A cutoff, how it was fitted, and what on."""

    model_config = _STRICT

    version: int = Field(default=1, ge=1, le=1)
    """Of the file's form."""
    cutoff: float
    """What ``retrace.cutoff`` is set to."""
    share: float
    method: CutoffMethod
    expected: ScoreSpread
    """The reasonings' scores that it was fitted on."""
    stages: dict[str, StageScores]
    """By stage, whole answers under ``answer``."""
    effects: tuple[CutoffEffect, ...]
    """What other cutoffs would have done."""
    right_above_wrong: float | None
    """How often a right reasoning scores above a wrong one of the same question; None where that was never the case."""
    questions: int
    splits: dict[str, int]
    """Questions by split, so that a fit on an evaluation set can be seen."""
    made_with: dict[str, JsonValue]
    """Fingerprints of the model and of what scored, and their number format."""
    search: dict[str, JsonValue]
    """The search that drew the reasonings."""


def read_calibration(file: Path) -> Calibration:
    """Raises InputError when the file is not there or was not written by ``stagebeam calibrate``."""
    try:
        return TypeAdapter(Calibration).validate_python(read_json(file))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{file}: is no file of `stagebeam calibrate`: {where}: {first['msg']}") from error


def write_calibration(file: Path, calibration: Calibration) -> None:
    """Whole or not at all; the same run writes the same bytes."""
    write_json_atomic(file, calibration.model_dump(mode="json"))


def calibrated(searches: dict[str, SearchConfig], calibration: Calibration, *, source: Path) -> dict[str, SearchConfig]:
    """The searches with the file's cutoff where they score by what it was fitted on.

    Raises ConfigError when none of them does.
    """
    expected = calibration.expected
    changed = {name: with_cutoff(search, calibration.cutoff, expected) for name, search in searches.items()}
    if all(search.scorer is not expected.scorer for search in searches.values()):
        raise ConfigError(
            f"{source} holds a cutoff for scores by {expected.scorer.value!r}, and no search scores by it; set "
            f"scorer: {expected.scorer.value}, or leave `calibration` out"
        )
    return changed


def differences(made_with: dict[str, JsonValue], run: dict[str, JsonValue]) -> list[str]:
    """What answers or scores differently here than where the cutoff was fitted, by name."""
    return [name for name in sorted({*made_with, *run}) if made_with.get(name) != run.get(name)]
