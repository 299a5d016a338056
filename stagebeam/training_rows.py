"""The training rows of an annotation run, where ``stagebeam train`` looks for them."""

from __future__ import annotations

from pathlib import Path

from pipelines.export import ExportSummary, write_training_rows
from pipelines.judgements import JudgementConfig
from reasoning.records import RowKind

KINDS: dict[str, tuple[RowKind, ...]] = {
    "four-stage": (RowKind.FOUR_STAGE, RowKind.JUDGEMENT),
    "direct": (RowKind.DIRECT,),
}
"""Folder name to the rows in it: a model each."""


def export_rows(
    annotations: Path | str, folder: Path, *, judgements: JudgementConfig | None = None
) -> dict[str, ExportSummary]:
    """Write ``folder/four-stage`` (with judgements where there are any) and ``folder/direct``."""
    return {
        name: write_training_rows(annotations, folder / name, kinds=kinds, judgements=judgements)
        for name, kinds in KINDS.items()
    }


def describe(name: str, summary: ExportSummary) -> str:
    """``four-stage: 5,000 rows (…)``, for the reader."""
    kinds = ", ".join(f"{count:,} {kind.value.replace('_', '-')}" for kind, count in summary.rows.items())
    return f"{name} training rows: {kinds}"
