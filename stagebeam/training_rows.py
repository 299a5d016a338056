"""The training rows of an annotation run, where ``stagebeam train`` looks for them."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipelines.export import ExportSummary, write_training_rows
from pipelines.judgements import JudgementConfig
from reasoning.errors import OutputMismatchError
from reasoning.records import RowKind

KINDS: dict[str, tuple[RowKind, ...]] = {
    "four-stage": (RowKind.FOUR_STAGE, RowKind.JUDGEMENT),
    "direct": (RowKind.DIRECT,),
}
"""Folder name to the rows in it: a model each."""


def export_rows(
    annotations: Path | str, folder: Path, *, judgements: JudgementConfig | None = None, renew: bool = False
) -> dict[str, ExportSummary]:
    """Write ``folder/four-stage`` (with judgements where there are any) and ``folder/direct``.

    With ``renew``, rows of the same place that were made of other annotations are made anew, not refused:
    for a folder inside the annotation run, whose rows follow from it.
    """
    found = {}
    for name, kinds in KINDS.items():
        try:
            found[name] = write_training_rows(annotations, folder / name, kinds=kinds, judgements=judgements)
        except OutputMismatchError:
            if not renew:
                raise
            shutil.rmtree(folder / name)
            found[name] = write_training_rows(annotations, folder / name, kinds=kinds, judgements=judgements)
    return found


def describe(name: str, summary: ExportSummary) -> str:
    """``four-stage: 5,000 rows (…)``, for the reader."""
    kinds = ", ".join(f"{count:,} {kind.value.replace('_', '-')}" for kind, count in summary.rows.items())
    return f"{name} training rows: {kinds}"
