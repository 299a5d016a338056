"""An estimate as lines for a console."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.estimate import DryRun, Estimate
from pipelines.estimate_costs import Span


def dry_run_lines(dry: DryRun) -> list[str]:
    """The prompts, each under its title, then the estimate."""
    lines = []
    for number, (title, prompt) in enumerate(dry.prompts, start=1):
        lines += [f"── prompt {number} of {len(dry.prompts)} · {title} " + "─" * 20, prompt, ""]
    return [*lines, *estimate_lines(dry.estimate)]


def estimate_lines(estimate: Estimate) -> list[str]:
    """What the run will take, most likely, with the bounds behind it, and what that rests on."""
    return [*_figures(estimate), *(f"  · {note}" for note in estimate.notes)]


def _figures(found: Estimate) -> Iterator[str]:
    yield f"{found.rows:,} rows to ask, estimated from {found.sampled_rows:,} of them"
    if found.unasked_rows:
        why = "no answer, a fault of the source, a picture that cannot be read"
        yield f"  about {found.unasked_rows:,} will be rejected without a call: {why}"
    yield f"  calls             {_whole(found.calls)}"
    size = f", at {found.picture[0]} × {found.picture[1]} pixels" if found.picture else ""
    pictures = f"; of them pictures {_short(found.image_tokens.likely)}{size}" if found.image_tokens.likely else ""
    yield f"  prompt tokens     {_whole(found.prompt_tokens)}{pictures}"
    yield f"  generated tokens  {_whole(found.generated_tokens)}"
    if found.dollars is not None:
        low, likely, high = (f"${value:,.2f}" for value in found.dollars.each())
        yield f"  dollars           {likely} ({low} to {high})"
    low, likely, high = (_time(value) for value in found.hours.each())
    yield f"  time              {likely} ({low} to {high}); what sets it: {found.binds}"
    if found.rows_in_budget is not None:
        yield f"  the budget is likely to end the run after about {_short(found.rows_in_budget)} rows"


def _whole(span: Span) -> str:
    low, likely, high = (_short(value) for value in span.each())
    return f"{likely} ({low} to {high})"


def _short(value: float) -> str:
    """Three digits that count: an estimate has no more."""
    for size, letter in ((1e9, " billion"), (1e6, " million")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{round(value):,}" if value < 1000 else f"{round(value, -2):,.0f}"


def _time(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"
