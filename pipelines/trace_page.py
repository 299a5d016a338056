"""One trace as one self-contained HTML page: picture, tree, scores, verdicts and tokens.

Writes a file from values it is given; asks no model and loads nothing.
"""

from __future__ import annotations

from pathlib import Path

from cluster.storage import write_text_atomic
from pipelines.compare import Table
from pipelines.pages import render, trace_view
from reasoning.ledger import Ledger
from reasoning.records import Question
from reasoning.trace import Trace

_FLOATS = {"seconds": 2, "dollars": 4}


def render_trace_page(
    question: Question, trace: Trace, *, conclusion: str | None, ledger: Ledger | None = None, model: str = ""
) -> str:
    """The page as HTML. ``question`` carries the picture by its bytes, or the page shows none."""
    counts = f"{len(trace.candidates)} candidates, {len(trace.comparisons)} comparisons"
    return render(
        "trace.html",
        title="How the answer was found",
        subtitle=" · ".join(part for part in (trace.strategy.replace("_", " "), model, counts) if part),
        view=trace_view(question, trace, conclusion=conclusion),
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


def ledger_rows(ledger: Ledger) -> Table:
    """Every field of a ledger and the computed tokens, one row each."""
    rows = [("computed tokens", f"{ledger.computed_tokens:,}")]
    for name, value in ledger.as_dict().items():
        text = f"{value:.{_FLOATS[name]}f}" if name in _FLOATS else f"{value:,}"
        rows.append((name.replace("_", " "), text))
    return Table(columns=("what", "how much"), rows=tuple(rows), numeric=(False, True))
