"""Charts as inline SVG: no display, no files, colours from the page's style.

Text stays text (it follows the page's font), and every colour is one of the page's CSS variables,
so that a chart is right on a light and on a dark page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pipelines.measures import Share

# Drawn in these, and replaced by CSS variables afterwards: matplotlib cannot draw a variable.
_INK, _MUTED, _GRID = "#010101", "#020202", "#030303"
_SERIES = ("#040401", "#040402", "#040403", "#040404", "#040405", "#040406")
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--line)",
    **{colour: f"var(--series-{i + 1})" for i, colour in enumerate(_SERIES)},
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "grid.color": _GRID,
    "legend.frameon": False,
}
_MARKERS = ("o", "s", "D", "^", "v", "P")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One search in the chart of accuracy against compute."""

    group: str
    """The model; a group has one colour and one marker."""
    label: str
    tokens: float
    accuracy: Share


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of (x, y) values with a name."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


def accuracy_chart(points: Sequence[Point], *, floor: Share | None = None) -> str:
    """Accuracy in per cent with its interval against computed tokens a question, as an SVG element.

    ``floor`` is drawn as a dashed line: the blind prior. The horizontal axis is logarithmic where
    the points span more than a factor of eight. Raises ValueError without points.
    """
    if not points:
        raise ValueError("accuracy_chart needs at least one point, got none")
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.3), layout="constrained")
        axes = figure.subplots()
        groups = list(dict.fromkeys(point.group for point in points))
        for number, group in enumerate(groups):
            members = sorted((p for p in points if p.group == group), key=lambda p: p.tokens)
            colour = _SERIES[number % len(_SERIES)]
            axes.errorbar(
                [p.tokens for p in members],
                [100 * p.accuracy.value for p in members],
                yerr=[
                    [100 * max(0.0, p.accuracy.value - p.accuracy.low) for p in members],
                    [100 * max(0.0, p.accuracy.high - p.accuracy.value) for p in members],
                ],
                fmt=_MARKERS[number % len(_MARKERS)],
                color=colour,
                markersize=6,
                elinewidth=1.4,
                capsize=3,
                label=group,
            )
        if floor is not None and floor.total:
            axes.axhline(100 * floor.value, color=_MUTED, linestyle=(0, (4, 4)), linewidth=1, label="blind prior")
        _frame(axes, "computed tokens a question, judge included", "accuracy, %")
        tokens = [point.tokens for point in points if point.tokens > 0]
        if tokens and max(tokens) > 8 * min(tokens):
            _log_axis(axes, min(tokens), max(tokens))
        axes.margins(x=0.12, y=0.1)
        _label_points(figure, axes, points)
        figure.legend(loc="outside upper left", ncols=4, handletextpad=0.4, columnspacing=1.2)
        return _svg(figure, "accuracy")


def loss_chart(curves: Sequence[Curve]) -> str:
    """Training loss against steps, as an SVG element; raises ValueError without a curve."""
    if not any(curve.x for curve in curves):
        raise ValueError("loss_chart needs at least one curve with points, got none")
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = figure.subplots()
        for number, curve in enumerate(curves):
            colour = _SERIES[number % len(_SERIES)]
            axes.plot(curve.x, curve.y, color=colour, linewidth=1, alpha=0.3)
            axes.plot(curve.x, smoothed(curve.y), color=colour, linewidth=2, label=curve.label)
        _frame(axes, "step", "loss")
        axes.set_ylim(bottom=0)
        if len(curves) > 1:
            figure.legend(loc="outside upper left", ncols=3)
        return _svg(figure, "loss")


def smoothed(values: Sequence[float]) -> list[float]:
    """A running mean over a twentieth of the values to each side, shorter at the ends."""
    reach = len(values) // 20
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _frame(axes: Any, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def _log_axis(axes: Any, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low / 1.4, high * 1.9)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


_LINE_PT, _LETTER_PT = 13.0, 6.0


def _label_points(figure: Any, axes: Any, points: Sequence[Point]) -> None:
    """Write each name beside its point, moved up or down where it would lie on a name or on an interval."""
    figure.canvas.draw()

    def place(tokens: float, share: float) -> tuple[float, float]:
        x, y = axes.transData.transform((tokens, 100 * share)) * 72 / figure.dpi
        return float(x), float(y)

    bars = [(*place(p.tokens, p.accuracy.low), place(p.tokens, p.accuracy.high)[1]) for p in points]
    taken: list[tuple[float, float, float]] = []
    shifts = [sign * k * _LINE_PT / 2 for k in range(7) for sign in (1, -1)]
    for point in sorted(points, key=lambda p: (p.tokens, -p.accuracy.value)):
        x, y = place(point.tokens, point.accuracy.value)
        width = _LETTER_PT * len(point.label) + 10
        shift = next((s for s in shifts if _is_free(x, y + s, width, taken, bars)), 0.0)
        taken.append((x, y + shift, width))
        axes.annotate(
            point.label,
            (point.tokens, 100 * point.accuracy.value),
            xytext=(8, shift),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            annotation_clip=False,
        )


def _is_free(
    x: float,
    y: float,
    width: float,
    taken: Sequence[tuple[float, float, float]],
    bars: Sequence[tuple[float, float, float]],
) -> bool:
    """Whether a name that begins at (x, y), all in points, meets no name (x, y, width) and no bar (x, low, high)."""
    if any(abs(y - other_y) < _LINE_PT and x < other_x + w and other_x < x + width for other_x, other_y, w in taken):
        return False
    reach = _LINE_PT / 2
    return not any(x + 1 < bar_x < x + width and low - reach < y < high + reach for bar_x, low, high in bars)


def _svg(figure: Any, name: str) -> str:
    """The figure as one SVG element: no prologue, no metadata, no fixed size, ids of its own."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 class="chart" role="img"', text, count=1)
    text = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text
