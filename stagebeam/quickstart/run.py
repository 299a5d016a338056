"""What the steps of a quickstart share: its settings, where its files lie, the record of a step."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.storage import read_json, write_json_atomic
from stagebeam.console import Update
from stagebeam.quickstart.config import QuickstartConfig


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What a finished step leaves: lines for the reader, numbers for later steps, its time."""

    lines: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """Plain values that JSON can hold."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class QuickstartRun:
    """One run and the places in its folder."""

    config: QuickstartConfig

    @property
    def folder(self) -> Path:
        return self.config.output.absolute()

    @property
    def train_questions(self) -> Path:
        return self.folder / "questions" / "train"

    @property
    def test_questions(self) -> Path:
        return self.folder / "questions" / "test"

    @property
    def annotations(self) -> Path:
        return self.folder / "annotations"

    def rows(self, kind: str) -> Path:
        """Training rows: ``four-stage`` or ``direct``."""
        return self.folder / "rows" / kind

    def training(self, label: str) -> Path:
        """The training run of the model ``label``."""
        return self.folder / "training" / label

    def model(self, label: str) -> Path:
        """The servable model ``label``: ``base``, ``direct`` or ``four-stage``."""
        if label == "base":
            return base_model(self.config)
        return self.training(label) / "model"

    def answers(self, label: str) -> Path:
        """What the model ``label`` answered to the test questions."""
        return self.folder / "answers" / label

    @property
    def labels(self) -> tuple[str, ...]:
        """The models that are compared, in the order of the table."""
        return ("base", "direct", "four-stage") if self.config.fine_tune_direct else ("base", "four-stage")

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def example_image(self) -> Path:
        """A held-out picture for the commands that the end suggests."""
        return self.folder / "example.png"

    def record(self, step: str) -> StepRecord | None:
        """The record of a step, None while it is not finished."""
        path = self._marker(step)
        if not path.exists():
            return None
        raw = read_json(path)
        return StepRecord(lines=tuple(raw["lines"]), facts=raw["facts"], seconds=raw["seconds"])

    def keep(self, step: str, record: StepRecord) -> None:
        """Mark a step as finished."""
        write_json_atomic(
            self._marker(step), {"lines": list(record.lines), "facts": record.facts, "seconds": record.seconds}
        )

    def _marker(self, step: str) -> Path:
        return self.folder / "steps" / f"{step}.json"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One of the five: what it is called, how it is done, whether it needs Ray."""

    name: str
    title: str
    module: str
    """Its ``work(run, update)`` does the step. Loaded when it is the step's turn: torch and Ray take seconds."""
    needs_ray: bool = True

    def load(self) -> Callable[[QuickstartRun, Update], StepRecord]:
        """The step's function."""
        work: Callable[[QuickstartRun, Update], StepRecord] = importlib.import_module(self.module).work
        return work


def timed(step: Step, run: QuickstartRun, update: Update, clock: Callable[[], float] = time.monotonic) -> StepRecord:
    """Do a step, measure it and keep its record."""
    started = clock()
    made = step.load()(run, update)
    record = StepRecord(lines=made.lines, facts=made.facts, seconds=clock() - started)
    run.keep(step.name, record)
    return record


def base_model(config: QuickstartConfig) -> Path:
    """The model to start from."""
    if config.base_model is not None:
        return config.base_model.absolute()
    from stagebeam.base import WEIGHTS

    return WEIGHTS
