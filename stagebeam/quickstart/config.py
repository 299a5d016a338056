"""How large the quickstart's steps are. ``configs/quickstart.yaml`` shows every knob."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.judgements import JudgementConfig, JudgementForm
from reasoning.errors import ConfigError
from reasoning.protocols import Sampling
from reasoning.records import RowKind
from reasoning.search.config import PromptStyle, SearchConfig, SelectorKind, Strategy
from reasoning.stages import Stage
from serve.config import Topology
from stagebeam.standin.faults import StandInConfig

_STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

_SAMPLING = Sampling(temperature=0.6, top_p=0.9, max_new_tokens=320)


def _search(strategy: Strategy, samples: int = 1, selector: SelectorKind = SelectorKind.LIKELIHOOD) -> SearchConfig:
    return SearchConfig(
        strategy=strategy,
        samples=samples,
        selector=selector,
        prompt_style=PromptStyle.COMPACT,
        sampling=_SAMPLING,
    )


DEFAULT_SEARCHES = {
    "greedy": _search(Strategy.GREEDY),
    "vote-4": _search(Strategy.SELF_CONSISTENCY, 4),
    "best-of-4": _search(Strategy.BEST_OF_N, 4, SelectorKind.JUDGE_LOGPROB),
    "judged-beam-4": _search(Strategy.STAGE_BEAM, 4, SelectorKind.JUDGE_LOGPROB),
    "beam-4": _search(Strategy.STAGE_BEAM, 4),
}
"""The searches that the table compares."""
DIRECT_SEARCH = _search(Strategy.DIRECT)
"""How models that know no stages are asked."""


class FineTuning(BaseModel):
    """One fine-tuning run; what it leaves open is as in ``TrainConfig``."""

    model_config = _STRICT

    epochs: int = Field(default=1, ge=1)
    """Passes over the rows."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps after which the run ends; None for whole epochs."""
    batch_size_per_worker: int = Field(default=8, ge=1)
    """Rows in one step of each of the two workers."""
    learning_rate: float = Field(default=1.2e-3, gt=0)
    """The peak."""
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    """The share of steps in which the rate rises from zero."""
    zero_stage: int = Field(default=2, ge=0, le=3)
    """DeepSpeed ZeRO."""
    kind_weights: dict[RowKind, float] = Field(default_factory=dict)
    """How much a token of a kind counts in the loss; 1 unless named."""
    kind_repeats: dict[RowKind, int] = Field(default_factory=dict)
    """How often a row of a kind is seen in an epoch; 1 unless named."""


class QuickstartConfig(BaseModel):
    """The whole loop: sizes, seeds and searches."""

    model_config = _STRICT

    output: Path = Path("runs/quickstart")
    """The run folder; made if missing, resumed if it is of the same run."""
    seed: int = 0
    """Scenes, questions, faults, row order and searches derive from it."""
    train_questions: int = Field(default=2000, ge=8)
    """Questions given to the teacher."""
    test_questions: int = Field(default=300, ge=4)
    """Held-out questions that every search answers."""
    judge_questions: int = Field(default=100, ge=1)
    """Further held-out questions; each gives one pair a stage to measure the judge with."""
    base_model: Path | None = None
    """Model to start from; None is the shipped tiny base."""
    teacher: StandInConfig = StandInConfig()
    """How the stand-in teacher misbehaves."""
    judgements: JudgementConfig = JudgementConfig(
        forms=(JudgementForm.CHOICE,),
        stages=(Stage.CAPTION, Stage.REASONING, Stage.CONCLUSION),
        whole_answer_every=2,
    )
    """Which judgements are made of right and flawed answers, for the model to learn to judge."""
    fine_tune: FineTuning = FineTuning(kind_repeats={RowKind.FOUR_STAGE: 2}, kind_weights={RowKind.JUDGEMENT: 8.0})
    """The four-stage model: annotations and judgements."""
    fine_tune_direct: FineTuning | None = FineTuning()
    """The model trained on answers alone, for comparison; None leaves it out."""
    searches: dict[str, SearchConfig] = Field(default_factory=lambda: dict(DEFAULT_SEARCHES))
    """The searches of the four-stage model, by the name they have in the table."""
    demonstration: str = "beam-4"
    """The one of ``searches`` that the served model uses."""
    topology: Topology = Topology.SHARED
    """Deployments of the served model: one a stage and role, or one pool for all."""
    scoring_actors: int = Field(default=2, ge=1)
    """Processes that answer questions; each holds the model and one thread."""
    logical_cpus: int = Field(default=8, ge=4)
    """CPUs that the quickstart's Ray believes to have; its actors take turns on the real ones."""

    @model_validator(mode="after")
    def _check(self) -> QuickstartConfig:
        if self.demonstration not in self.searches:
            known = ", ".join(self.searches) or "none"
            raise ConfigError(
                f"QuickstartConfig.demonstration is {self.demonstration!r}, not among the searches: {known}"
            )
        direct = [name for name, search in self.searches.items() if search.strategy is Strategy.DIRECT]
        if direct:
            raise ConfigError(
                f"QuickstartConfig.searches: {direct[0]!r} has strategy 'direct'; the base and the directly trained "
                "model are asked that way by themselves, the four-stage model answers in stages"
            )
        return self
