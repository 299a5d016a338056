"""What an evaluation consists of: plain numbers, JSON-able, shown by the front door and the report.

Values only. How they are computed is said in ``evaluate``, ``diagnostics``, ``prior`` and
``judge_check``; how they are shown in ``compare``, ``charts`` and ``report``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from reasoning.counts import VerdictCounts
from reasoning.intervals import wilson


@dataclass(frozen=True, kw_only=True)
class Share:
    """``successes`` of ``total``, with the Wilson 95 % interval [low, high], as fractions of 1."""

    successes: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The fraction; NaN of nothing."""
        return self.successes / self.total if self.total else math.nan


def share_of(successes: int, total: int) -> Share:
    """The share with its interval; of nothing, the interval is [0, 1]."""
    low, high = wilson(successes, total) if total else (0.0, 1.0)
    return Share(successes=successes, total=total, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class MeanLedger:
    """Compute of one question, the mean over those that were answered without an error."""

    computed_tokens: float = 0.0
    """All tokens that went through a model, judge and reward tokens included."""
    judge_tokens: float = 0.0
    generated_tokens: float = 0.0
    image_encodes: float = 0.0
    serial_steps: float = 0.0
    seconds: float = 0.0
    """Wall time of one answer while others were being worked on beside it."""
    dollars: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FamilyAccuracy:
    """Accuracy over the questions of one family."""

    family: str
    accuracy: Share


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """McNemar's test at the questions that both searches answered."""

    baseline: str
    """``model / search`` of the one compared with."""
    questions: int
    only_this: int
    """Questions that this search alone got right."""
    only_baseline: int
    p_value: float

    @property
    def difference(self) -> float:
        """Accuracy of this search minus that of the baseline."""
        return (self.only_this - self.only_baseline) / self.questions if self.questions else math.nan


@dataclass(frozen=True, kw_only=True)
class StageDiversity:
    """How much a stage's candidates differ from one another."""

    stage: str
    """Stage name, or ``answer`` for whole answers."""
    groups: int
    """How many groups of at least two candidates were looked at."""
    distinct_texts: float
    """Distinct texts a candidate, mean over the groups: 1 means all differ, 1/N all are the same."""
    usable: float
    """Share of candidates that can be used (closed by their tag, no fault)."""


@dataclass(frozen=True, kw_only=True)
class SearchDiagnostics:
    """Why a search helps or does not: what its last pool held, and what was made of it.

    The pool of a question is its whole answers, or the conclusions at the leaves of a stage beam.
    """

    questions: int
    """Questions with a known answer and at least one candidate."""
    pool_size: float
    distinct_conclusions: float
    oracle: Share
    """Questions with at least one right candidate: what a perfect selector would reach."""
    vote: Share
    """Questions where the commonest conclusion of the pool is right; ties keep writing order."""
    picked: Share
    """Of the questions whose pool holds right and wrong candidates: those where a right one won."""
    picked_by_chance: float
    """The same for a pick at random: mean share of right candidates in those pools."""
    diversity: tuple[StageDiversity, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TraceJudgement:
    """What the traces tell of the judge at one stage.

    A comparison counts where the two candidates came to a different end: one right, one wrong,
    or, for earlier stages, a different share of right conclusions below them.
    """

    stage: str
    comparisons: int
    """All comparisons made."""
    picked_right: Share
    """Of the comparisons that count and favoured one side; a tie favours the likelier."""
    undecided: int
    """Ties and unreadable verdicts among all comparisons."""
    chose_first: Share
    """Of the decided comparisons: those that went to the one named first."""
    swap_consistent: Share
    """Of the comparisons asked in both orders: those where both orders named the same winner."""


@dataclass(frozen=True, kw_only=True)
class SearchEvaluation:
    """One search of one model on one set of questions.

    ``accuracy.total`` is made up of right, wrong, format failures and errors; questions without a
    known answer are in none of them.
    """

    model: str
    search: str
    strategy: str
    accuracy: Share
    wrong: int
    format_failures: int
    """No conclusion could be read, or the answer broke the form and was not right."""
    errors: int
    """Rows that ended in an error instead of an answer."""
    unknown: int
    """Rows without a known answer."""
    ledger: MeanLedger
    families: tuple[FamilyAccuracy, ...] = ()
    paired: tuple[PairedTest, ...] = ()
    diagnostics: SearchDiagnostics | None = None
    judgements: tuple[TraceJudgement, ...] = ()
    counts: VerdictCounts = field(default_factory=VerdictCounts)
    """How its comparisons went, over all answers."""

    @property
    def name(self) -> str:
        return f"{self.model} / {self.search}"


@dataclass(frozen=True, kw_only=True)
class FamilyPrior:
    """The best constant answer of one family."""

    family: str
    constant: str
    accuracy: Share


@dataclass(frozen=True, kw_only=True)
class BlindPrior:
    """What can be had without looking: constants chosen on other questions, measured on these."""

    constant: str
    """The best single answer to everything."""
    plain: Share
    by_family: Share
    by_question: Share
    """The commonest answer to the same question text; where that was not seen, the family's."""
    families: tuple[FamilyPrior, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything measured, in the order in which the results were given."""

    searches: tuple[SearchEvaluation, ...]
    prior: BlindPrior | None = None

    def to_json(self) -> str:
        return _EVALUATION.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """The inverse of ``to_json``."""
        return _EVALUATION.validate_json(text)


@dataclass(frozen=True, kw_only=True)
class StageJudging:
    """How a judge does on pairs of known order, at one stage (or over all of them)."""

    stage: str
    pairs: int
    accuracy: Share
    """Pairs decided rightly from both orders together; an undecided pair is not right."""
    accuracy_one_order: Share
    """Single judgements that named the better one, as when each pair is asked once."""
    undecided: int
    unreadable: int
    """Single judgements without a readable verdict."""
    chose_first: Share
    """Order bias: single judgements that named the response shown first; 0.5 is no bias."""
    swap_consistent: Share
    """Pairs where both orders named the same winner."""
    chose_longer: Share
    """Length bias: single judgements that named the longer text, where lengths differ."""
    better_is_longer: Share
    """How often the better one is in fact the longer: what ``chose_longer`` is to be read against."""


@dataclass(frozen=True, kw_only=True)
class JudgeReport:
    """One judge in one mode: all stages together, then each by itself."""

    model: str
    mode: str
    overall: StageJudging
    stages: tuple[StageJudging, ...] = ()


_EVALUATION = TypeAdapter(Evaluation)
