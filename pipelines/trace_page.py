"""One trace as one self-contained HTML page: picture, tree, candidates, verdicts, tokens and times.

Writes a file from values it is given; asks no model and loads nothing. The page's script shows and
hides what stands in the page already: without it everything is there to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.storage import write_text_atomic
from pipelines.compare import Table
from pipelines.diagnostics import STAGE_ORDER, stage_name
from pipelines.pages import render
from pipelines.trace_view import trace_view
from reasoning.counts import count_verdicts
from reasoning.ledger import Ledger
from reasoning.records import Question
from reasoning.trace import Step, StepKind, Trace

_FLOATS = {"seconds": 2, "dollars": 4}
_STEP_WORDS = {StepKind.WRITE: "writing", StepKind.SELECT: "judging"}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One step on the time line, in per cent of its width."""

    left: float
    width: float
    kind: str
    """``write`` or ``select``; also its CSS class."""
    title: str


@dataclass(frozen=True, kw_only=True)
class TimeRow:
    name: str
    bars: tuple[Bar, ...]
    total: str


@dataclass(frozen=True, kw_only=True)
class TimeLine:
    rows: tuple[TimeRow, ...]
    end: str


def render_trace_page(
    question: Question, trace: Trace, *, conclusion: str | None, ledger: Ledger | None = None, model: str = ""
) -> str:
    """The page as HTML. ``question`` carries the picture by its bytes, or the page shows none."""
    counts = count_verdicts(trace)
    found = [("candidates", f"{len(trace.candidates):,}")]
    found += [(name, f"{number:,}") for name, number in counts.as_dict().items()]
    if ledger is not None:
        found += [("tokens", f"{ledger.computed_tokens:,}"), ("time", seconds(ledger.seconds))]
    return render(
        "trace.html",
        script="trace.js",
        title="How the answer was found",
        subtitle=" · ".join(part for part in (trace.strategy.replace("_", " "), model) if part),
        view=trace_view(question, trace, conclusion=conclusion),
        counts=found,
        notes=trace.notes,
        stages=stage_table(trace),
        times=time_line(trace.steps),
        ledger=ledger_rows(ledger) if ledger is not None else None,
    )


def write_trace_page(
    path: Path,
    question: Question,
    trace: Trace,
    *,
    conclusion: str | None,
    ledger: Ledger | None = None,
    model: str = "",
) -> Path:
    """Write the page to ``path``, whole or not at all, and give the path back."""
    write_text_atomic(path, render_trace_page(question, trace, conclusion=conclusion, ledger=ledger, model=model))
    return path


def stage_table(trace: Trace) -> Table:
    """What each stage drew, compared and spent: tokens that its candidates were written with and that went through
    its judge, and seconds. Of a trace without steps only what can be counted.
    """
    columns: tuple[str, ...] = (
        "stage", "drawn", "usable", "kept", "tokens", "comparisons", "unreadable", "swapped", "tied", "judge tokens",
        "writing", "judging",
    )  # fmt: skip
    stages = [one.stage for one in trace.candidates]
    stages += [one.stage for one in trace.comparisons]
    stages += [one.stage for one in trace.steps]
    seen = {stage_name(stage) for stage in stages}
    rows = tuple(_stage_row(trace, name) for name in STAGE_ORDER if name in seen)
    if not trace.steps:
        columns, rows = columns[:-3], tuple(row[:-3] for row in rows)
    return Table(columns=columns, rows=rows, numeric=(False, *[True] * (len(columns) - 1)))


def _stage_row(trace: Trace, name: str) -> tuple[str, ...]:
    drawn = [candidate for candidate in trace.candidates if stage_name(candidate.stage) == name]
    met = tuple(comparison for comparison in trace.comparisons if stage_name(comparison.stage) == name)
    counts = count_verdicts(replace(trace, comparisons=met, notes=()))
    steps = [step for step in trace.steps if stage_name(step.stage) == name]
    judging = [step for step in steps if step.kind is StepKind.SELECT]
    return (
        name.lower(),
        f"{len(drawn):,}",
        f"{sum(candidate.fault is None for candidate in drawn):,}",
        f"{sum(candidate.is_kept for candidate in drawn):,}",
        f"{sum(candidate.tokens for candidate in drawn):,}",
        f"{counts.comparisons:,}",
        f"{counts.unreadable:,}",
        f"{counts.swapped:,}",
        f"{counts.tied:,}",
        f"{sum(step.tokens for step in judging):,}",
        seconds(covered([step for step in steps if step.kind is StepKind.WRITE])),
        seconds(covered(judging)),
    )


def time_line(steps: Sequence[Step]) -> TimeLine | None:
    """The steps as bars over the time of the answer, a row a stage; None where a trace has no times."""
    end = max((step.ended_s for step in steps), default=0.0)
    if end <= 0:
        return None
    rows = []
    for name in STAGE_ORDER:
        own = [step for step in steps if stage_name(step.stage) == name]
        if own:
            bars = tuple(_bar(step, end) for step in own)
            rows.append(TimeRow(name=name.lower(), bars=bars, total=seconds(covered(own))))
    return TimeLine(rows=tuple(rows), end=seconds(end))


def _bar(step: Step, end: float) -> Bar:
    length = step.ended_s - step.started_s
    return Bar(
        left=round(100 * step.started_s / end, 2),
        width=round(100 * length / end, 2),
        kind=step.kind.value,
        title=f"{_STEP_WORDS[step.kind]}: {seconds(length)} to {seconds(step.ended_s)}, {step.tokens:,} tokens",
    )


def covered(steps: Sequence[Step]) -> float:
    """The seconds in which at least one of these steps ran."""
    total, reached = 0.0, 0.0
    for step in sorted(steps, key=lambda one: one.started_s):
        total += max(0.0, step.ended_s - max(reached, step.started_s))
        reached = max(reached, step.ended_s)
    return total


def seconds(value: float) -> str:
    """A time as it is read: ``0.031 s``, ``4.2 s``, ``63 s``; a dash for none."""
    if value <= 0:
        return "–"
    return f"{value:.0f} s" if value >= 20 else f"{value:.1f} s" if value >= 1 else f"{value:.3f} s"


def ledger_rows(ledger: Ledger) -> Table:
    """Every field of a ledger and the computed tokens, one row each."""
    rows = [("computed tokens", f"{ledger.computed_tokens:,}")]
    for name, value in ledger.as_dict().items():
        text = f"{value:.{_FLOATS[name]}f}" if name in _FLOATS else f"{value:,}"
        rows.append((name.replace("_", " "), text))
    return Table(columns=("what", "how much"), rows=tuple(rows), numeric=(False, True))
