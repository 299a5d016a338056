"""From search trees whose reasonings were scored to a cutoff and what it would have done. Pure functions."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from actors.rewards.calibration import Calibration, CutoffEffect, StageScores
from pipelines.answers import Answer
from pipelines.diagnostics import stage_name
from reasoning.calibration import CutoffMethod, fit_cutoff, quantile
from reasoning.errors import InputError
from reasoning.grading import is_correct
from reasoning.records import Question
from reasoning.search.config import Retrace, ScoreSpread, SearchConfig, Strategy
from reasoning.stages import Stage
from reasoning.trace import Trace

SHARES = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The cutoffs whose effects are told beside the chosen one."""
_EVALUATION_SPLIT = "test"
_BENCHMARKS = frozenset({"mmstar", "mmbench", "mmvet", "mathvista", "ai2d", "hallusionbench"})
_FEWEST = 100
_NO_BETTER_THAN_CHANCE = 0.5


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A reasoning and the answer that was concluded from it."""

    score: float
    """Of the reasoning."""
    answer_score: float | None
    """Of the whole answer; None when there was only one to choose from."""
    is_right: bool | None
    """None without a known answer, or without a conclusion."""
    is_double: bool = False
    """Whether an earlier one says the same: it has no conclusion of its own, but counts for the cutoff."""


@dataclass(frozen=True, kw_only=True)
class ScoredTree:
    """What one question gives: scores by stage, and its reasonings in writing order."""

    scores: Mapping[str, tuple[float, ...]]
    reasonings: tuple[Finished, ...]


def drawing_search(search: SearchConfig) -> SearchConfig:
    """One round of a retracing search in which every reasoning is scored and concluded, with no limits.

    A lost scorer is an error here: a cutoff fitted on what likelihood says instead would be none.
    """
    sizes = replace(search.retrace, rounds=1, finalists=search.retrace.captions, cutoff=0.0, expected=None)
    return replace(
        search, strategy=Strategy.SWIRES, retrace=sizes, deadline_s=None, token_budget=None, judge_fallback=False
    )


def scored_tree(answer: Answer) -> ScoredTree:
    """The scores in an answer's trace, and which of its conclusions are right."""
    if answer.trace is None:
        return ScoredTree(scores={}, reasonings=())
    trace = Trace.from_json(answer.trace)
    conclusions = {one.parent: one for one in trace.candidates if one.stage is Stage.CONCLUSION and one.fault is None}
    scores: dict[str, list[float]] = {}
    reasonings: list[Finished] = []
    texts = {one.id: one.text for one in trace.candidates}
    seen: set[tuple[str, str]] = set()
    for one in trace.candidates:
        if one.score is None:
            continue
        stage = None if one.stage is Stage.CONCLUSION else one.stage
        scores.setdefault(stage_name(stage), []).append(one.score)
        if one.stage is Stage.REASONING:
            end = conclusions.get(one.id)
            said = (texts.get(one.parent or "", ""), one.text)
            reasonings.append(
                Finished(
                    score=one.score,
                    answer_score=end.score if end is not None else None,
                    is_right=_grade(answer.question, end.text) if end is not None else None,
                    is_double=said in seen,
                )
            )
            seen.add(said)
    return ScoredTree(scores={name: tuple(found) for name, found in scores.items()}, reasonings=tuple(reasonings))


def fit(
    trees: Sequence[ScoredTree],
    search: SearchConfig,
    *,
    share: float,
    method: CutoffMethod,
    splits: Mapping[str, int],
    made_with: Mapping[str, object],
    described: Mapping[str, object],
) -> Calibration:
    """The cutoff for ``search`` with what it would have done; raises InputError when nothing was scored."""
    scores = [one.score for tree in trees for one in tree.reasonings]
    if not scores:
        raise InputError("no reasoning got a score; look at the answers' column `fault` for what the model wrote")
    spread = ScoreSpread(
        scorer=search.scorer, count=len(scores), mean=statistics.fmean(scores), std=statistics.pstdev(scores)
    )
    cutoffs = {other: fit_cutoff(scores, other, method) for other in sorted({*SHARES, share})}
    names = dict.fromkeys(name for tree in trees for name in tree.scores)
    return Calibration.model_validate(
        {
            "cutoff": cutoffs[share],
            "share": share,
            "method": method,
            "expected": spread,
            "stages": {name: _stage_scores([s for tree in trees for s in tree.scores.get(name, ())]) for name in names},
            "effects": tuple(effect(trees, search.retrace, other, cutoff) for other, cutoff in cutoffs.items()),
            "right_above_wrong": right_above_wrong(trees),
            "questions": len(trees),
            "splits": dict(splits),
            "made_with": dict(made_with),
            "search": dict(described),
        }
    )


def effect(trees: Sequence[ScoredTree], sizes: Retrace, share: float, cutoff: float) -> CutoffEffect:
    """What a search would have done after one round with this cutoff."""
    graded: Counter[bool] = Counter()
    right: Counter[bool] = Counter()
    retraced = 0
    for tree in trees:
        ranked = sorted(tree.reasonings, key=lambda one: -one.score)
        stops = len(ranked) > 1 and ranked[1].score > cutoff
        retraced += not stops
        is_right = _picked([one for one in ranked if not one.is_double][: sizes.finalists])
        if is_right is not None:
            graded[stops] += 1
            right[stops] += is_right
    return CutoffEffect(
        share=share,
        cutoff=cutoff,
        retraced=retraced,
        questions=len(trees),
        graded_stopped=graded[True],
        right_stopped=right[True],
        graded_retraced=graded[False],
        right_retraced=right[False],
    )


def right_above_wrong(trees: Iterable[ScoredTree]) -> float | None:
    """How often a right reasoning scores above a wrong one of the same question, equal scores counting half."""
    hits: list[float] = []
    for tree in trees:
        rights = [one.score for one in tree.reasonings if one.is_right is True]
        wrongs = [one.score for one in tree.reasonings if one.is_right is False]
        hits += [1.0 if good > bad else 0.5 if good == bad else 0.0 for good in rights for bad in wrongs]
    return statistics.fmean(hits) if hits else None


def cautions(calibration: Calibration, sources: Iterable[str]) -> list[str]:
    """What speaks against using this cutoff."""
    found = []
    tests = sorted(split for split in calibration.splits if _EVALUATION_SPLIT in split.lower())
    benchmarks = sorted({source for source in sources if source.lower().replace("-", "").split("_")[0] in _BENCHMARKS})
    if named := [f"split {split!r}" for split in tests] + [f"benchmark {source!r}" for source in benchmarks]:
        found.append(
            f"fitted on {', '.join(named)}: results on these questions are no held-out results any more; fit on others"
        )
    if calibration.expected.count < _FEWEST:
        found.append(f"only {calibration.expected.count} reasonings got a score; take more questions")
    if calibration.expected.std == 0:
        found.append("all reasonings score the same: this scorer cannot tell them apart")
    if calibration.right_above_wrong is not None and calibration.right_above_wrong <= _NO_BETTER_THAN_CHANCE:
        found.append(
            f"a right reasoning scores above a wrong one in {calibration.right_above_wrong:.0%} of the cases: this "
            "scorer is no better than chance here"
        )
    return found


def _picked(finalists: Sequence[Finished]) -> bool | None:
    """Whether the answer that the search would give is right; None when that is not known."""
    known = [one for one in finalists if one.is_right is not None]
    if not known:
        return None
    best = max(known, key=lambda one: one.answer_score if one.answer_score is not None else float("-inf"))
    return best.is_right


def _stage_scores(scores: Sequence[float]) -> StageScores:
    ordered = sorted(scores)
    return StageScores(
        count=len(scores),
        mean=statistics.fmean(scores),
        std=statistics.pstdev(scores),
        quantiles={f"{share:g}": quantile(ordered, share) for share in (0.05, *SHARES, 0.95)},
    )


def _grade(question: Question, conclusion: str) -> bool | None:
    return None if question.answer is None else is_correct(question, conclusion)
