"""Calibrate: fit the cutoff of a retracing search on the user's own model, scorer and held-out questions.

Draws and scores reasonings as ``score`` does, on Ray Data and resumable, and writes
``calibration.json``. The published cutoff was fitted on an evaluation set, which this warns of.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import Field, model_validator

from actors.engines.build import build_engine
from actors.engines.config import check_search
from actors.rewards.calibration import Calibration, write_calibration
from cluster.logs import get_logger
from pipelines.answering import EngineBuilder
from pipelines.answers import committed_files, read_answers
from pipelines.compare import Table
from pipelines.cutoffs import ScoredTree, cautions, drawing_search, fit, scored_tree
from pipelines.score import ScoreProgress, run_scoring
from pipelines.score_config import OfflineConfig, ScoreConfig
from reasoning.calibration import CutoffMethod
from reasoning.errors import ConfigError
from reasoning.search.config import SearchConfig
from reasoning.search.parts import needs_rewarder

FILE = "calibration.json"
ANSWERS = "answers"
_NAME = "calibrate"
_log = get_logger(__name__)


class CalibrateConfig(OfflineConfig):
    """Which model's reasonings are scored by what, on which questions. ``output`` gets ``calibration.json``."""

    search: SearchConfig = Field(default_factory=SearchConfig)
    """The retracing search to fit: its ``scorer``, sampling, wording and ``retrace`` sizes; taken as ``swires``."""
    share: float = Field(default=0.6, gt=0, lt=1)
    """The share of reasonings that the cutoff is to lie above; 0.6 is the published mean + 0.2533 std."""
    method: CutoffMethod = CutoffMethod.QUANTILE
    """Counted, or as published from a normal distribution's mean and standard deviation."""

    @model_validator(mode="after")
    def _has_scorer(self) -> CalibrateConfig:
        check_search(drawing_search(self.search), self.openai, name="CalibrateConfig.search")
        if needs_rewarder(drawing_search(self.search)) and self.reward is None:
            raise ConfigError(
                "CalibrateConfig.search.scorer is 'reward' and no reward model is configured; set reward.kind and "
                "reward.model (or reward.url)"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class CalibrateSummary:
    """What was fitted and where it is."""

    file: Path
    calibration: Calibration
    warnings: tuple[str, ...]
    seconds: float


def run_calibration(
    config: CalibrateConfig,
    on_progress: Callable[[ScoreProgress], None] | None = None,
    *,
    build_engine: EngineBuilder = build_engine,
) -> CalibrateSummary:
    """Draw, score, fit, write. Raises as ``run_scoring`` does, and InputError when no reasoning got a score."""
    output = Path(config.output)
    search = drawing_search(config.search)
    scoring = ScoreConfig(
        **{name: getattr(config, name) for name in OfflineConfig.model_fields if name != "output"},
        output=str(output / ANSWERS),
        searches={_NAME: search},
    )
    summary = run_scoring(scoring, on_progress, build_engine=build_engine)
    trees: list[ScoredTree] = []
    splits: Counter[str] = Counter()
    sources: set[str] = set()
    for answer in read_answers(committed_files(output / ANSWERS)[_NAME]):
        trees.append(scored_tree(answer))
        splits[answer.question.split] += 1
        sources.add(answer.question.source)
    calibration = fit(
        trees,
        config.search,
        share=config.share,
        method=config.method,
        splits=splits,
        made_with=config.models(),
        described=json.loads(json.dumps(asdict(search))),
    )
    warnings = tuple(cautions(calibration, sources))
    for warning in warnings:
        _log.warning("calibration_doubtful", what=warning)
    write_calibration(output / FILE, calibration)
    return CalibrateSummary(file=output / FILE, calibration=calibration, warnings=warnings, seconds=summary.seconds)


def stages_table(calibration: Calibration) -> Table:
    """How the scores of each stage lie."""
    rows = tuple(
        (
            name.lower(),
            f"{stage.count:,}",
            f"{stage.mean:.4g}",
            f"{stage.std:.4g}",
            *(f"{stage.quantiles[share]:.4g}" for share in ("0.05", "0.5", "0.95")),
        )
        for name, stage in calibration.stages.items()
    )
    columns = ("stage", "scores", "mean", "std", "5 %", "median", "95 %")
    return Table(columns=columns, rows=rows, numeric=(False, *(True,) * 6))


def effects_table(calibration: Calibration) -> Table:
    """What cutoffs would have done after one round; the chosen one is marked."""
    rows = tuple(
        (
            f"{'→ ' if one.share == calibration.share else ''}{one.share:.0%}",
            f"{one.cutoff:.4g}",
            f"{one.retraced / one.questions:.0%}",
            _right(one.right_stopped, one.graded_stopped),
            _right(one.right_retraced, one.graded_retraced),
        )
        for one in calibration.effects
    )
    columns = ("share", "cutoff", "would retrace", "right where it stops", "right where it retraces")
    return Table(columns=columns, rows=rows, numeric=(True,) * 5)


def _right(right: int, graded: int) -> str:
    return f"{right:,} of {graded:,}" if graded else "–"
