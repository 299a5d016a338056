"""What the front door shows: one console for output, one for errors, and a progress display.

Live where the output is a terminal, plain lines where it is not. Draws what it is told and decides
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from pipelines import compare

PLAIN_LINE_EVERY_S = 10.0
PLAIN_WIDTH = 140


class Update(Protocol):
    """Says how far a step is: ``total`` 0 means that nobody knows."""

    def __call__(self, done: int, total: int, detail: str = "") -> None: ...


def output_console() -> Console:
    """Results and progress: standard output. Where that is no terminal, lines may be long."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, PLAIN_WIDTH)
    return console


@contextmanager
def progress(console: Console, title: str, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Update]:
    """Shows one step while the block runs; yields the function that reports how far it is."""
    if console.is_terminal:
        yield from _live(console, title)
    else:
        yield from _plain(console, title, clock)


def _live(console: Console, title: str) -> Iterator[Update]:
    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=console, transient=True) as display:
        task = display.add_task(escape(title), total=None, detail="")

        def update(done: int, total: int, detail: str = "") -> None:
            display.update(task, completed=done, total=total or None, detail=escape(detail))

        yield update


def _plain(console: Console, title: str, clock: Callable[[], float]) -> Iterator[Update]:
    console.print(f"{title} …", markup=False)
    printed_at = clock()

    def update(done: int, total: int, detail: str = "") -> None:
        nonlocal printed_at
        if clock() - printed_at < PLAIN_LINE_EVERY_S:
            return
        printed_at = clock()
        count = f"{done:,} of {total:,}" if total else f"{done:,}"
        console.print(f"{title}: {count}" + (f" · {detail}" if detail else ""), markup=False)

    yield update


def duration(seconds: float) -> str:
    """``48 s`` or ``3 min 05 s``."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def print_table(console: Console, title: str, table: compare.Table, *, droppable: Sequence[str] = ()) -> None:
    """Draw a table of text; where it is too wide, leave out ``droppable`` columns, in that order, and say so."""
    dropped: list[str] = []
    drawn = _drawn(title, table, dropped)
    for name in droppable:
        if console.measure(drawn, options=console.options.update(max_width=10_000)).maximum <= console.width:
            break
        dropped.append(name)
        drawn = _drawn(title, table, dropped)
    console.print(drawn)
    if dropped:
        console.print(f"(left out here: {', '.join(dropped)})", style="dim", markup=False)


def _drawn(title: str, table: compare.Table, dropped: Sequence[str]) -> Table:
    shown = [index for index, name in enumerate(table.columns) if name not in dropped]
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index in shown:
        justify: Literal["left", "right"] = "right" if table.numeric[index] else "left"
        drawn.add_column(table.columns[index], justify=justify, no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(row[index] for index in shown))
    return drawn
