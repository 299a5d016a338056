"""One table out of one or several evaluations: rows of text that any front end can draw.

Formats numbers; measures nothing. Every share is in per cent with its 95 % interval beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.measures import Evaluation, JudgeReport, SearchEvaluation, Share, TraceJudgement
from reasoning.errors import InputError

BLIND = "blind prior"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Column names and rows of text; ``numeric[i]`` says that column i reads best flushed right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


def combine(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Several evaluations as one, in their order; the first prior found stands for all.

    Raises InputError when two of them hold the same search of the same model.
    """
    searches = tuple(search for evaluation in evaluations for search in evaluation.searches)
    names = [search.name for search in searches]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{twice[0]!r} is in two evaluations; give the runs different labels")
    prior = next((evaluation.prior for evaluation in evaluations if evaluation.prior is not None), None)
    return Evaluation(searches=searches, prior=prior)


def load_evaluation(path: Path) -> Evaluation:
    """Read an ``evaluation.json``; raises InputError where there is none."""
    if not path.is_file():
        raise InputError(f"no evaluation at {path}; `evaluate` writes one")
    return Evaluation.from_json(path.read_text(encoding="utf-8"))


def percent(value: float) -> str:
    """A fraction as per cent with one decimal, a dash for NaN."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def interval(share: Share) -> str:
    """The interval of a share in per cent, such as ``68.4–73.9``."""
    return "–" if share.total == 0 else f"{100 * share.low:.1f}–{100 * share.high:.1f}"


def count(value: float) -> str:
    """A mean count: whole from 100 on, else with one decimal where it has one; thousands set apart."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}".removesuffix(".0")


def p_value(value: float) -> str:
    """A p-value with two figures that matter."""
    if value >= 0.995:
        return "1"
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.01 else f"{value:.2f}"


def signed_points(value: float) -> str:
    """A difference of two fractions in points, with its sign."""
    return "–" if math.isnan(value) else f"{100 * value:+.1f}".replace("-", "−")


CONSOLE_COLUMNS = ("model", "search", "accuracy %", "95 %", "format", "tokens", "judge", "steps", "vs greedy", "p")


def console_table(evaluation: Evaluation) -> Table:
    """The results as one table: the blind prior first, then a row a search.

    ``format`` counts format failures, ``tokens`` and ``judge`` are computed tokens a question (the
    second is part of the first), ``steps`` the serial steps; ``vs greedy`` is the paired difference
    in points to the greedy search of the same model.
    """
    rows: list[tuple[str, ...]] = []
    if evaluation.prior is not None:
        best = max(
            evaluation.prior.plain, evaluation.prior.by_family, evaluation.prior.by_question, key=lambda s: s.value
        )
        rows.append((BLIND, "constant answers", percent(best.value), interval(best), *[""] * 6))
    rows.extend(_search_row(search) for search in evaluation.searches)
    return Table(columns=CONSOLE_COLUMNS, rows=tuple(rows), numeric=tuple(i >= 2 for i in range(len(CONSOLE_COLUMNS))))


def _search_row(search: SearchEvaluation) -> tuple[str, ...]:
    greedy = next((pair for pair in search.paired if pair.baseline.startswith(f"{search.model} / ")), None)
    return (
        search.model,
        search.search,
        percent(search.accuracy.value),
        interval(search.accuracy),
        str(search.format_failures + search.errors),
        count(search.ledger.computed_tokens),
        count(search.ledger.judge_tokens),
        count(search.ledger.serial_steps),
        signed_points(greedy.difference) if greedy else "",
        p_value(greedy.p_value) if greedy else "",
    )


def ledger_table(evaluation: Evaluation) -> Table:
    """Means a question of what each search cost."""
    columns = ("model", "search", "computed", "judge", "generated", "image encodes", "serial steps", "seconds")
    rows = tuple(
        (
            search.model,
            search.search,
            count(search.ledger.computed_tokens),
            count(search.ledger.judge_tokens),
            count(search.ledger.generated_tokens),
            count(search.ledger.image_encodes),
            count(search.ledger.serial_steps),
            f"{search.ledger.seconds:.2f}",
        )
        for search in evaluation.searches
    )
    return Table(columns=columns, rows=rows, numeric=(False, False, *[True] * 6))


def outcome_table(evaluation: Evaluation) -> Table:
    """Where the answers that are not right went."""
    columns = ("model", "search", "questions", "right", "wrong", "format failures", "errors")
    rows = tuple(
        (
            search.model,
            search.search,
            f"{search.accuracy.total:,}",
            f"{search.accuracy.successes:,}",
            str(search.wrong),
            str(search.format_failures),
            str(search.errors),
        )
        for search in evaluation.searches
    )
    return Table(columns=columns, rows=rows, numeric=(False, False, *[True] * 5))


def counts_table(evaluation: Evaluation) -> Table:
    """How comparisons went: totals over the answers, for searches that compared or fell back."""
    columns = ("model", "search", "comparisons", "unreadable", "swapped", "tied", "fallbacks")
    rows = tuple(
        (search.model, search.search, *(f"{number:,}" for number in search.counts.as_dict().values()))
        for search in evaluation.searches
        if any(search.counts.as_dict().values())
    )
    return Table(columns=columns, rows=rows, numeric=(False, False, *[True] * 5))


def family_table(evaluation: Evaluation) -> Table:
    """Accuracy in per cent by family of questions, the family's blind prior in front."""
    priors = {entry.family: entry.accuracy for entry in evaluation.prior.families} if evaluation.prior else {}
    names = sorted({entry.family for search in evaluation.searches for entry in search.families})
    columns = ("family", "questions", BLIND, *(search.name for search in evaluation.searches))
    rows: list[tuple[str, ...]] = []
    for name in names:
        shares = [
            next((entry.accuracy for entry in search.families if entry.family == name), None)
            for search in evaluation.searches
        ]
        total = max(share.total for share in shares if share is not None)
        prior = priors.get(name)
        rows.append(
            (
                name or "(none)",
                f"{total:,}",
                percent(prior.value) if prior else "–",
                *(percent(share.value) if share else "–" for share in shares),
            )
        )
    return Table(columns=columns, rows=tuple(rows), numeric=(False, *[True] * (len(columns) - 1)))


def paired_table(evaluation: Evaluation) -> Table:
    """McNemar tests: how many questions each side alone got right."""
    columns = ("search", "against", "questions", "points", "only this right", "only that right", "p")
    rows = tuple(
        (
            search.name,
            pair.baseline,
            f"{pair.questions:,}",
            signed_points(pair.difference),
            str(pair.only_this),
            str(pair.only_baseline),
            p_value(pair.p_value),
        )
        for search in evaluation.searches
        for pair in search.paired
    )
    return Table(columns=columns, rows=rows, numeric=(False, False, *[True] * 5))


def diagnosis_table(evaluation: Evaluation) -> Table:
    """What the pools of candidates held, and what was made of it; searches with a pool only."""
    columns = ("search", "pool", "distinct", "oracle %", "vote %", "mixed pools", "picked right %", "by chance %")
    rows = tuple(
        (
            search.name,
            count(found.pool_size),
            f"{found.distinct_conclusions:.2f}",
            percent(found.oracle.value),
            percent(found.vote.value),
            f"{found.picked.total:,}",
            percent(found.picked.value),
            percent(found.picked_by_chance) if found.picked.total else "–",
        )
        for search in evaluation.searches
        if (found := search.diagnostics) is not None and found.pool_size > 1
    )
    return Table(columns=columns, rows=rows, numeric=(False, *[True] * 7))


def diversity_table(evaluation: Evaluation) -> Table:
    """Distinct texts a candidate and usable candidates, a stage each."""
    columns = ("search", "stage", "groups", "distinct texts %", "usable %")
    rows = tuple(
        (search.name, entry.stage.lower(), f"{entry.groups:,}", percent(entry.distinct_texts), percent(entry.usable))
        for search in evaluation.searches
        if search.diagnostics is not None
        for entry in search.diagnostics.diversity
    )
    return Table(columns=columns, rows=rows, numeric=(False, False, True, True, True))


JUDGE_DETAILS = ("unreadable", "better is longer %", "chose longer %", "one order %", "swap-consistent %")
"""Columns of the judge's table that a narrow screen can do without, first to go first."""


def judge_table(reports: Sequence[JudgeReport]) -> Table:
    """Held-out pairs: accuracy, order bias, swap consistency and length bias, in per cent."""
    columns = (
        "judge",
        "stage",
        "pairs",
        "right %",
        "95 %",
        "one order %",
        "chose first %",
        "swap-consistent %",
        "chose longer %",
        "better is longer %",
        "unreadable",
    )
    rows = tuple(
        (
            f"{report.model}, {report.mode}",
            entry.stage.lower(),
            f"{entry.pairs:,}",
            percent(entry.accuracy.value),
            interval(entry.accuracy),
            percent(entry.accuracy_one_order.value),
            percent(entry.chose_first.value),
            percent(entry.swap_consistent.value),
            percent(entry.chose_longer.value),
            percent(entry.better_is_longer.value),
            str(entry.unreadable),
        )
        for report in reports
        for entry in (report.overall, *report.stages)
    )
    return Table(columns=columns, rows=rows, numeric=(False, False, *[True] * 9))


def trace_judge_table(evaluation: Evaluation) -> Table:
    """What the searches' own comparisons tell of the judge."""
    columns = (
        "search",
        "stage",
        "comparisons",
        "known better",
        "picked it %",
        "95 %",
        "undecided",
        "swap-consistent %",
    )
    rows = tuple(_trace_row(search.name, entry) for search in evaluation.searches for entry in search.judgements)
    return Table(columns=columns, rows=rows, numeric=(False, False, *[True] * 6))


def _trace_row(name: str, entry: TraceJudgement) -> tuple[str, ...]:
    return (
        name,
        entry.stage.lower(),
        f"{entry.comparisons:,}",
        f"{entry.picked_right.total:,}",
        percent(entry.picked_right.value),
        interval(entry.picked_right),
        str(entry.undecided),
        percent(entry.swap_consistent.value),
    )
