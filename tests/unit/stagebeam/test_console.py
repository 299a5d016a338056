"""Progress where there is no terminal: few lines, each whole."""

from __future__ import annotations

import io

from rich.console import Console

from stagebeam.console import duration, progress


def test_plain_progress_prints_seldom() -> None:
    text = io.StringIO()
    now = iter([0.0, 1.0, 12.0, 12.0, 13.0])
    with progress(Console(file=text, width=200), "2/5 Fine-tune", clock=lambda: next(now)) as update:
        update(1, 100, "too soon")
        update(1200, 3000, "loss 0.41 [x]")
        update(1201, 3000)
    assert text.getvalue() == "2/5 Fine-tune …\n2/5 Fine-tune: 1,200 of 3,000 · loss 0.41 [x]\n"


def test_live_progress_leaves_nothing_behind() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100, legacy_windows=False)
    with progress(console, "1/5 Annotate [a]") as update:
        update(3, 10, "[b] 2 rejected")
        update(0, 0)
    assert "1/5 Annotate [a]" in text.getvalue()


def test_duration_reads_well() -> None:
    assert [duration(s) for s in (0.4, 48, 59.6, 185)] == ["0 s", "48 s", "1 min 00 s", "3 min 05 s"]
