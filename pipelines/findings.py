"""Sentences that say what the numbers show, and whether they show anything at all.

Worded from the figures alone; a difference that its test does not support is called none.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.compare import interval, p_value, percent, signed_points
from pipelines.measures import BlindPrior, Evaluation, JudgeReport, SearchDiagnostics, SearchEvaluation, Share
from reasoning.search.config import Strategy

_SIGNIFICANT = 0.05
_DIFFERENT_ENOUGH = 1.5
"""Distinct conclusions a pool below which the candidates are called alike."""


def findings(evaluation: Evaluation, judges: Sequence[JudgeReport] = ()) -> tuple[str, ...]:
    """What the evaluation shows, most important first; one sentence or two each."""
    said = [_against_prior(evaluation)]
    said += [_against_greedy(search) for search in evaluation.searches]
    said += [_why(search) for search in evaluation.searches]
    said += [_about_judge(report) for report in judges]
    return tuple(sentence for sentence in said if sentence)


def best_prior(prior: BlindPrior) -> Share:
    """The highest of the blind priors: the floor to beat."""
    return max(prior.plain, prior.by_family, prior.by_question, key=lambda share: share.value)


def _against_prior(evaluation: Evaluation) -> str:
    if evaluation.prior is None or not evaluation.searches:
        return ""
    floor = best_prior(evaluation.prior)
    above = [search.name for search in evaluation.searches if search.accuracy.low > floor.high]
    not_above = [search.name for search in evaluation.searches if search.name not in above]
    text = f"Constant answers, chosen without looking, reach {percent(floor.value)} % ({interval(floor)})."
    if not not_above:
        return f"{text} Every search is above that, beyond the intervals."
    if not above:
        return f"{text} No search is clearly above that."
    return f"{text} Not clearly above: {', '.join(not_above)}."


def _against_greedy(search: SearchEvaluation) -> str:
    greedy = next((pair for pair in search.paired if pair.baseline.startswith(f"{search.model} / ")), None)
    if greedy is None or not greedy.questions:
        return ""
    figures = (
        f"{signed_points(greedy.difference)} points over {greedy.questions:,} questions, p = {p_value(greedy.p_value)}"
    )
    if greedy.p_value >= _SIGNIFICANT:
        return f"{search.name}: no difference from greedy can be told ({figures})."
    direction = "better" if greedy.difference > 0 else "worse"
    return f"{search.name} is {direction} than greedy ({figures})."


def _why(search: SearchEvaluation) -> str:
    found = search.diagnostics
    if found is None or found.pool_size < 2:
        return ""
    text = (
        f"{search.name}: a right candidate was in the last pool for {percent(found.oracle.value)} % of the questions,"
        f" {found.distinct_conclusions:.2f} different conclusions of {found.pool_size:.1f} on average."
    )
    if search.strategy != Strategy.SELF_CONSISTENCY.value and found.picked.total:
        text += (
            f" Where right and wrong ones stood side by side ({found.picked.total:,} questions), a right one was taken"
            f" {percent(found.picked.value)} % of the time ({interval(found.picked)});"
            f" by chance {percent(found.picked_by_chance)} %."
        )
    return f"{text} {_limit(search, found)}"


def _limit(search: SearchEvaluation, found: SearchDiagnostics) -> str:
    """What holds the search back, as far as the pools tell."""
    missing = 1 - found.oracle.value
    lost = found.oracle.value - search.accuracy.value
    if found.picked.total and found.picked.low <= found.picked_by_chance <= found.picked.high:
        return "The selector cannot be told from chance."
    if found.distinct_conclusions < _DIFFERENT_ENOUGH and missing > lost:
        return "The candidates are too alike for a selector to gain much: what is wrong is wrong in all of them."
    if lost > missing:
        return "More is lost by the selector than by missing right candidates."
    return "More is lost by missing right candidates than by the selector."


def _about_judge(report: JudgeReport) -> str:
    judged = report.overall
    text = (
        f"Judge {report.model} ({report.mode}) names the better of two held-out responses"
        f" {percent(judged.accuracy.value)} % of the time"
        f" ({interval(judged.accuracy)}; {judged.pairs:,} pairs, both orders)."
    )
    if judged.chose_first.total and not judged.chose_first.low <= 0.5 <= judged.chose_first.high:
        side = "first" if judged.chose_first.value > 0.5 else "second"
        text += f" It leans to the response shown {side} ({percent(judged.chose_first.value)} % first)."
    weakest = min(report.stages, key=lambda entry: entry.accuracy.value, default=None)
    if weakest is not None and len(report.stages) > 1:
        text += f" It is weakest at the {weakest.stage.lower()} ({percent(weakest.accuracy.value)} %)."
    return text
