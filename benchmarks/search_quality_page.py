"""From the rows of ``search_quality run`` to its page: tables, paired tests, a chart."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

BUDGETS = (1, 2, 4, 8, 16)
"""Times the computed tokens of a greedy answer."""
# The mean cost of a size may lie this much above a budget and still count as within it.
SLACK = 1.05
BASELINE = "vote"
SHOWN = (
    "greedy",
    "vote",
    "best of N, likelihood",
    "stage beam, likelihood",
    "posterior, own judge, rating",
    "best of N, own judge",
    "best of N, self judge",
    "stage beam, self judge",
)
"""The curves of the chart."""
Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One search: accuracy is the mean over questions of the mean over seeds."""

    method: str
    size: int
    right: Mapping[str, float]
    """Question to the share of seeds with a right answer."""
    cost: float
    """Computed tokens, in greedy answers."""
    judge_share: float
    serial_steps: float

    @property
    def accuracy(self) -> float:
        return fmean(self.right.values())

    @property
    def half_width(self) -> float:
        """Of the 95 % interval over questions; a question's seeds count as one."""
        return Z95 * stdev(self.right.values()) / math.sqrt(len(self.right))


def points_of(rows: Sequence[Mapping[str, Any]]) -> list[Point]:
    """The searches in the order of the grid."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["size"]].append(row)
    greedy = fmean(row["computed_tokens"] for row in groups["greedy", 1])
    return [_point(method, size, found, greedy) for (method, size), found in groups.items()]


def _point(method: str, size: int, rows: Sequence[Mapping[str, Any]], greedy: float) -> Point:
    right: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        right[row["question"]].append(row["is_right"])
    tokens = fmean(row["computed_tokens"] for row in rows)
    return Point(
        method=method,
        size=size,
        right={question: fmean(found) for question, found in right.items()},
        cost=tokens / greedy,
        judge_share=fmean(row["judge_tokens"] for row in rows) / tokens,
        serial_steps=fmean(row["serial_steps"] for row in rows),
    )


def compare(first: Point, second: Point) -> tuple[float, float, float]:
    """Accuracy of ``second`` less that of ``first``, half of its 95 % interval, two-sided p, paired by question."""
    differences = [second.right[question] - right for question, right in first.right.items()]
    mean, spread = fmean(differences), stdev(differences)
    if spread == 0:
        return mean, 0.0, 1.0
    error = spread / math.sqrt(len(differences))
    return mean, Z95 * error, 2 * (1 - NormalDist().cdf(abs(mean) / error))


def within(points: Sequence[Point], method: str, budget: float) -> Point | None:
    """The largest size of a method that the budget pays."""
    fits = [point for point in points if point.method == method and point.cost <= budget * SLACK]
    return max(fits, key=lambda point: point.cost) if fits else None


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page's figures in Markdown."""
    points = points_of(rows)
    methods = list(dict.fromkeys(point.method for point in points))
    lines = [
        "| search | " + " | ".join(f"{budget}×" for budget in BUDGETS) + " |",
        "|---|" + "---|" * len(BUDGETS),
    ]
    for method in methods:
        cells = []
        for budget in BUDGETS:
            found = within(points, method, budget)
            cells.append("" if found is None else f"{100 * found.accuracy:.1f} (N={found.size}, {found.cost:.1f}×)")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| search | N | right, % | cost | judge's part | serial steps | against greedy | p | against equal vote | p |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    [greedy] = [point for point in points if point.method == "greedy"]
    for point in points:
        versus = within(points, BASELINE, max(point.cost, 1.0))
        lines.append(
            f"| {point.method} | {point.size} | {100 * point.accuracy:.1f} ± {100 * point.half_width:.1f} "
            f"| {point.cost:.2f}× | {100 * point.judge_share:.0f} % | {point.serial_steps:.1f} "
            f"| {_difference(greedy, point)} | {_difference(versus, point)} |"
        )
    return "\n".join(lines)


def _difference(first: Point | None, second: Point) -> str:
    if first is None or (first.method, first.size) == (second.method, second.size):
        return " | "
    mean, half, p = compare(first, second)
    named = f" (vote {first.size})" if first.method == BASELINE else ""
    return f"{100 * mean:+.1f} ± {100 * half:.1f}{named} | {'<0.001' if p < 0.001 else f'{p:.3f}'}"


def checks(rows: Sequence[Mapping[str, Any]]) -> str:
    """How far searches that share draws agree with the same searches run alone."""
    checked = [row for row in rows if "alone" in row]
    if not checked:
        return ""
    same = sum(row["conclusion"] == row["alone"]["conclusion"] for row in checked)
    shared = sum(row["computed_tokens"] for row in checked)
    alone = sum(row["alone"]["computed_tokens"] for row in checked)
    return (
        f"{len(checked):,} of these searches were also run alone: {same:,} gave the same conclusion, and their tokens "
        f"came to {100 * shared / alone:.1f} % of those counted alone."
    )


def chart(points: Sequence[Point], path: Path, methods: Sequence[str]) -> None:
    """Accuracy over cost of some methods."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    for method in methods:
        found = sorted((p for p in points if p.method == method), key=lambda point: point.cost)
        axes.errorbar(
            [p.cost for p in found],
            [100 * p.accuracy for p in found],
            yerr=[100 * p.half_width for p in found],
            marker="o",
            capsize=2,
            label=method,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(BUDGETS, [f"{budget}×" for budget in BUDGETS])
    axes.set_xlabel("computed tokens, in greedy answers")
    axes.set_ylabel("right answers, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write_page(output: Path, page: Path) -> None:
    """Put the figures between the marks of the page, beside what is written there by hand."""
    rows = [json.loads(line) for path in sorted(output.glob("*-*-*.jsonl")) for line in path.read_text().splitlines()]
    questions = len({row["question"] for row in rows})
    seeds = len({row["seed"] for row in rows})
    head = f"{questions:,} questions, {seeds} seeds, {len(rows):,} answers. {checks(rows)}".strip()
    begin, end = "<!-- figures -->", "<!-- end of figures -->"
    text = page.read_text() if page.exists() else f"# Search quality\n\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{head}\n\n{tables(rows)}\n{end}{after}")
    chart(points_of(rows), page.with_suffix(".png"), SHOWN)
