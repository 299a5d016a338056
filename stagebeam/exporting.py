"""What ``stagebeam export`` and ``stagebeam decontaminate`` do: settings in, the work, what came of it.

Imported when one of the commands runs; each function imports its own part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from stagebeam.console import duration, output_console, progress
from stagebeam.settings import load_config


def run_export(
    file: Path | None,
    overrides: Sequence[str],
    *,
    run: str | None,
    form: str | None,
    output: Path | None,
    images: str | None,
) -> None:
    """See ``pipelines.exports``; arguments stand over the settings."""
    from pipelines.exports.config import ExportConfig
    from pipelines.exports.run import run_export as write

    given = {"run": run, "format": form, "output": output, "images": images}
    config = load_config(ExportConfig, file, [*overrides, *_as_overrides(given)])
    console = output_console()
    with progress(console, "Export") as update:
        outcome = write(config, update)
    console.print(f"{outcome.records:,} records ({config.format.value}) → {outcome.output}", markup=False)
    for detail in outcome.details:
        console.print(f"  {detail}", markup=False)


def run_decontaminate(
    file: Path | None,
    overrides: Sequence[str],
    *,
    questions: str | None,
    against: Sequence[str],
    output: Path | None,
    ray: str | None,
) -> None:
    """See ``pipelines.decontaminate``; prints what was found by benchmark and kind."""
    from cluster.connect import connect
    from pipelines.decontaminate import DecontaminateConfig, run_decontamination

    given = {"questions": questions, "output": output, "against": list(against) or None}
    config = load_config(DecontaminateConfig, file, [*overrides, *_as_overrides(given)])
    console = output_console()
    with progress(console, "Decontaminate") as update, connect(ray) if ray is not None else nullcontext():
        summary = run_decontamination(config, update)
    console.print(f"{summary.questions:,} questions in {duration(summary.seconds)}", markup=False)
    for line in summary.lines():
        console.print(f"  {line}", markup=False)
    console.print(f"{summary.dropped:,} on the drop list → {summary.drop_file}", markup=False)
    console.print(f"Report: {summary.report_file}", markup=False)


def _as_overrides(values: Mapping[str, object]) -> list[str]:
    """Arguments as ``key=value`` settings, quoted so that YAML reads each as the text that it is."""
    return [
        f"{key}={json.dumps(value if isinstance(value, list) else str(value), ensure_ascii=False)}"
        for key, value in values.items()
        if value is not None
    ]
