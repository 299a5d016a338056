"""Evaluate: answers of one or several runs to accuracies, compute, priors and diagnostics.

Reads what ``score`` wrote and, for the blind prior, training questions; answers nothing itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from cluster.storage import write_text_atomic
from pipelines.answers import Answer, committed_files, read_answers
from pipelines.diagnostics import TraceTally
from pipelines.measures import (
    Evaluation,
    FamilyAccuracy,
    MeanLedger,
    PairedTest,
    SearchEvaluation,
    share_of,
)
from pipelines.prior import fit_constants, measure_prior
from pipelines.schemas import read_questions
from reasoning.counts import VerdictCounts, count_verdicts
from reasoning.errors import ConfigError
from reasoning.intervals import mcnemar
from reasoning.ledger import Ledger
from reasoning.records import Question
from reasoning.search.config import Strategy
from reasoning.trace import Trace

EVALUATION_FILE = "evaluation.json"


class ResultsFolder(BaseModel):
    """Results of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    label: str
    """What the model is called in tables, such as ``base`` or ``four-stage``."""
    path: str
    """The output folder of a ``score`` run."""


class EvaluateConfig(BaseModel):
    """What to measure and where to put the numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    results: tuple[ResultsFolder, ...]
    """One entry a model, in the order of the tables."""
    output: str
    """Folder for ``evaluation.json``; made if missing."""
    train_questions: str | None = None
    """Question Parquet of the training split, for the blind prior; without it there is no prior."""
    reference: str | None = None
    """``label/search`` that every other search is also paired with, across models."""

    @model_validator(mode="after")
    def _check(self) -> EvaluateConfig:
        labels = [entry.label for entry in self.results]
        if not labels:
            raise ConfigError("EvaluateConfig.results is empty; name at least one results folder")
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ConfigError(f"EvaluateConfig.results: label {twice[0]!r} is used twice; give each run its own")
        return self


@dataclass
class SearchTally:
    """Adds the answers of one search up; keeps of each no more than its id and whether it is right."""

    model: str
    search: str
    strategy: str = ""
    rights: dict[str, bool] = field(default_factory=dict)
    """Question id to right or not, for questions with a known answer; errors are not right."""
    wrong: int = 0
    format_failures: int = 0
    errors: int = 0
    unknown: int = 0
    answered: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    families: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    traces: TraceTally = field(default_factory=TraceTally)
    counts: VerdictCounts = field(default_factory=VerdictCounts)

    def add(self, answer: Answer) -> None:
        self.strategy = self.strategy or answer.strategy
        if answer.error_type is None:
            self.answered += 1
            self.ledger = self.ledger + answer.ledger
        # From the trace, not from the columns: runs that were written before these have traces too.
        trace = Trace.from_json(answer.trace) if answer.trace is not None else None
        if trace is not None:
            self.counts = self.counts + count_verdicts(trace)
        if answer.question.answer is None:
            self.unknown += 1
            return
        is_right = bool(answer.is_correct)
        self.rights[answer.question.id] = is_right
        self.families[answer.family].append(is_right)
        if answer.error_type is not None:
            self.errors += 1
        elif not is_right and (answer.fault is not None or answer.conclusion is None):
            self.format_failures += 1
        elif not is_right:
            self.wrong += 1
        if trace is not None:
            self.traces.add(answer.question, trace, chosen_right=is_right)

    def evaluation(self, paired: tuple[PairedTest, ...]) -> SearchEvaluation:
        return SearchEvaluation(
            model=self.model,
            search=self.search,
            strategy=self.strategy,
            accuracy=share_of(sum(self.rights.values()), len(self.rights)),
            wrong=self.wrong,
            format_failures=self.format_failures,
            errors=self.errors,
            unknown=self.unknown,
            ledger=mean_ledger(self.ledger, self.answered),
            families=tuple(
                FamilyAccuracy(family=name, accuracy=share_of(sum(rights), len(rights)))
                for name, rights in sorted(self.families.items())
            ),
            paired=paired,
            diagnostics=self.traces.diagnostics(),
            judgements=self.traces.judgements(),
            counts=self.counts,
        )


def mean_ledger(total: Ledger, answers: int) -> MeanLedger:
    """The compute of one answer, the mean over ``answers``; zeros of none."""
    n = max(answers, 1)
    return MeanLedger(
        computed_tokens=total.computed_tokens / n,
        judge_tokens=total.judge_tokens / n,
        generated_tokens=total.generated_tokens / n,
        image_encodes=total.image_encodes / n,
        serial_steps=total.serial_steps / n,
        seconds=total.seconds / n,
        dollars=total.dollars / n,
    )


def paired_test(baseline: str, this: Mapping[str, bool], other: Mapping[str, bool]) -> PairedTest:
    """McNemar's test over the questions in both (``mcnemar`` says which form)."""
    common = this.keys() & other.keys()
    only_this = sum(this[key] and not other[key] for key in common)
    only_other = sum(other[key] and not this[key] for key in common)
    return PairedTest(
        baseline=baseline,
        questions=len(common),
        only_this=only_this,
        only_baseline=only_other,
        p_value=mcnemar(only_this, only_other),
    )


def evaluate_answers(
    groups: Mapping[tuple[str, str], Iterable[Answer]],
    *,
    train: Iterable[Question] | None = None,
    reference: tuple[str, str] | None = None,
) -> Evaluation:
    """Measure answers given as (model, search) to answers; groups are read once, in their order.

    Every search is paired with the greedy search of its own model and with ``reference``.
    Raises ConfigError when ``reference`` is not among the groups.
    """
    tallies: list[SearchTally] = []
    test: dict[str, Question] = {}
    for (model, search), answers in groups.items():
        tally = SearchTally(model, search)
        for answer in answers:
            tally.add(answer)
            if train is not None:
                test.setdefault(answer.question.id, answer.question)
        tallies.append(tally)
    by_name = {(tally.model, tally.search): tally for tally in tallies}
    if reference is not None and reference not in by_name:
        known = ", ".join("/".join(name) for name in by_name)
        raise ConfigError(f"EvaluateConfig.reference {'/'.join(reference)!r} is not among the results: {known}")
    prior = measure_prior(fit_constants(train), test.values()) if train is not None else None
    extra = by_name[reference] if reference is not None else None
    return Evaluation(searches=tuple(tally.evaluation(_pairs(tally, tallies, extra)) for tally in tallies), prior=prior)


def _pairs(tally: SearchTally, all_tallies: Sequence[SearchTally], extra: SearchTally | None) -> tuple[PairedTest, ...]:
    baselines = [
        other for other in all_tallies if other.model == tally.model and other.strategy == Strategy.GREEDY.value
    ]
    if extra is not None and extra not in baselines:
        baselines.append(extra)
    return tuple(
        paired_test(f"{other.model} / {other.search}", tally.rights, other.rights)
        for other in baselines
        if other is not tally and tally.rights.keys() & other.rights.keys()
    )


def run_evaluation(config: EvaluateConfig) -> Evaluation:
    """Measure every search of every results folder and write ``evaluation.json``.

    Raises InputError where a folder holds no answers, ConfigError for an unknown reference.
    """
    groups: dict[tuple[str, str], Iterable[Answer]] = {}
    for entry in config.results:
        for search, files in committed_files(Path(entry.path)).items():
            groups[entry.label, search] = read_answers(files)
    train = read_questions(Path(config.train_questions)) if config.train_questions else None
    label, _, search = (config.reference or "").partition("/")
    evaluation = evaluate_answers(groups, train=train, reference=(label, search) if config.reference else None)
    write_text_atomic(Path(config.output) / EVALUATION_FILE, evaluation.to_json())
    return evaluation
