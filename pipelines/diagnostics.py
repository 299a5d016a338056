"""Why a search helps or not, read from its traces: pools, diversity, and the judge's picks.

Pure functions over traces and questions with a known answer; what a trace does not hold (the end
a discarded stage would have come to) is not guessed at.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pipelines.measures import SearchDiagnostics, StageDiversity, TraceJudgement, share_of
from reasoning.grading import canonical, is_correct, normalise
from reasoning.parsing import parse_stages
from reasoning.records import Question
from reasoning.search.config import Strategy
from reasoning.stages import STAGES, FourStages, Stage
from reasoning.trace import Candidate, Comparison, Trace, Verdict

T = TypeVar("T")

ANSWER = "answer"
"""How whole answers are called where a stage's name is expected."""


def stage_name(stage: Stage | None) -> str:
    """The stage's name for tables, ``answer`` for whole answers."""
    return ANSWER if stage is None else stage.value


def conclusion_of(candidate: Candidate, strategy: str) -> str | None:
    """The conclusion a candidate gives, None where it gives none (an earlier stage, a broken form)."""
    if candidate.stage is Stage.CONCLUSION:
        return None if candidate.fault else candidate.text.strip() or None
    if candidate.stage is not None:
        return None
    if strategy == Strategy.DIRECT:
        return candidate.text.strip() or None
    parsed = parse_stages(candidate.text)
    return parsed.conclusion if isinstance(parsed, FourStages) else None


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The candidates of one question that could have become its answer."""

    keys: tuple[str | None, ...]
    """The same for conclusions that mean the same; None where there is none."""
    rights: tuple[bool, ...]
    chosen_right: bool

    @property
    def is_mixed(self) -> bool:
        return any(self.rights) and not all(self.rights)


def pool_of(question: Question, trace: Trace, *, chosen_right: bool) -> Pool | None:
    """The pool of a trace; None where it holds no candidate that could be an answer."""
    finals = [c for c in trace.candidates if c.stage in (None, Stage.CONCLUSION)]
    if not finals:
        return None
    conclusions = tuple(conclusion_of(c, trace.strategy) for c in finals)
    rights = tuple(text is not None and is_correct(question, text) for text in conclusions)
    keys = tuple(None if text is None else canonical(question, text) for text in conclusions)
    return Pool(keys=keys, rights=rights, chosen_right=chosen_right)


def vote_is_right(pool: Pool) -> bool:
    """Whether the commonest conclusion of the pool is right; ties go to the one written first."""
    keyed = [(key, right) for key, right in zip(pool.keys, pool.rights, strict=True) if key is not None]
    if not keyed:
        return False
    winner, _ = Counter(key for key, _ in keyed).most_common(1)[0]
    return next(right for key, right in keyed if key == winner)


def descendant_rights(question: Question, trace: Trace) -> dict[str, float]:
    """Candidate id to the share of right ones among the ends below it; absent where none is known."""
    ends: dict[str, list[float]] = defaultdict(list)
    by_id = {c.id: c for c in trace.candidates}
    for leaf in trace.candidates:
        if leaf.stage not in (None, Stage.CONCLUSION):
            continue
        text = conclusion_of(leaf, trace.strategy)
        right = 1.0 if text is not None and is_correct(question, text) else 0.0
        seen: set[str] = set()
        node: Candidate | None = leaf
        while node is not None and node.id not in seen:
            seen.add(node.id)
            ends[node.id].append(right)
            node = by_id.get(node.parent) if node.parent else None
    return {key: sum(values) / len(values) for key, values in ends.items()}


def _took_first(comparison: Comparison) -> bool | None:
    """Whom the comparison favoured; a tie of probabilities goes to the mean, as in the selectors."""
    if comparison.verdict is Verdict.TIE and comparison.p_first not in (None, 0.5):
        return comparison.p_first is not None and comparison.p_first > 0.5
    return {Verdict.FIRST: True, Verdict.SECOND: False}.get(comparison.verdict)


@dataclass
class _StageCount:
    comparisons: int = 0
    right: int = 0
    counted: int = 0
    undecided: int = 0
    first: int = 0
    decided: int = 0
    consistent: int = 0
    both_orders: int = 0

    def add(self, comparison: Comparison, ends: Mapping[str, float]) -> None:
        self.comparisons += 1
        if comparison.is_swap_consistent is not None:
            self.both_orders += 1
            self.consistent += comparison.is_swap_consistent
        if comparison.verdict not in (Verdict.FIRST, Verdict.SECOND):
            self.undecided += 1
        took_first = _took_first(comparison)
        if took_first is None:
            return
        self.decided += 1
        self.first += took_first
        first, second = ends.get(comparison.first), ends.get(comparison.second)
        if first is not None and second is not None and first != second:
            self.counted += 1
            self.right += took_first == (first > second)


@dataclass
class _StageGroups:
    groups: int = 0
    distinct: float = 0.0
    candidates: int = 0
    usable: int = 0


@dataclass
class TraceTally:
    """Adds traces up one at a time, so that no more than one is in memory."""

    pools: list[Pool] = field(default_factory=list)
    stages: dict[str, _StageCount] = field(default_factory=lambda: defaultdict(_StageCount))
    groups: dict[str, _StageGroups] = field(default_factory=lambda: defaultdict(_StageGroups))

    def add(self, question: Question, trace: Trace, *, chosen_right: bool) -> None:
        """Count one trace of a question with a known answer."""
        pool = pool_of(question, trace, chosen_right=chosen_right)
        if pool is not None:
            self.pools.append(pool)
        self._add_diversity(trace.candidates)
        if trace.comparisons:
            ends = descendant_rights(question, trace)
            for comparison in trace.comparisons:
                self.stages[stage_name(comparison.stage)].add(comparison, ends)

    def _add_diversity(self, candidates: Sequence[Candidate]) -> None:
        siblings: dict[tuple[str | None, Stage | None], list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            siblings[candidate.parent, candidate.stage].append(candidate)
        for (_, stage), group in siblings.items():
            if len(group) < 2:
                continue
            count = self.groups[stage_name(stage)]
            count.groups += 1
            count.distinct += len({normalise(c.text) for c in group}) / len(group)
            count.candidates += len(group)
            count.usable += sum(c.fault is None for c in group)

    def diagnostics(self) -> SearchDiagnostics | None:
        """The summary; None where no trace was added or none had a pool."""
        if not self.pools:
            return None
        total = len(self.pools)
        mixed = [pool for pool in self.pools if pool.is_mixed]
        return SearchDiagnostics(
            questions=total,
            pool_size=sum(len(pool.rights) for pool in self.pools) / total,
            distinct_conclusions=sum(len(set(pool.keys) - {None}) for pool in self.pools) / total,
            oracle=share_of(sum(any(pool.rights) for pool in self.pools), total),
            vote=share_of(sum(map(vote_is_right, self.pools)), total),
            picked=share_of(sum(pool.chosen_right for pool in mixed), len(mixed)),
            picked_by_chance=sum(sum(pool.rights) / len(pool.rights) for pool in mixed) / len(mixed) if mixed else 0.0,
            diversity=tuple(
                StageDiversity(
                    stage=name,
                    groups=count.groups,
                    distinct_texts=count.distinct / count.groups,
                    usable=count.usable / count.candidates,
                )
                for name, count in _in_stage_order(self.groups)
            ),
        )

    def judgements(self) -> tuple[TraceJudgement, ...]:
        """What the comparisons tell, a stage each, in writing order."""
        return tuple(
            TraceJudgement(
                stage=name,
                comparisons=count.comparisons,
                picked_right=share_of(count.right, count.counted),
                undecided=count.undecided,
                chose_first=share_of(count.first, count.decided),
                swap_consistent=share_of(count.consistent, count.both_orders),
            )
            for name, count in _in_stage_order(self.stages)
        )


STAGE_ORDER: tuple[str, ...] = (*(stage.value for stage in STAGES), ANSWER)


def _in_stage_order(by_stage: Mapping[str, T]) -> Iterable[tuple[str, T]]:
    return ((name, by_stage[name]) for name in STAGE_ORDER if name in by_stage)
