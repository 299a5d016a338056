"""The training rows inside an annotation run follow it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from annotation_cases import QUESTION, accepted_row, annotation_run

from pipelines.schemas import read_training
from reasoning.errors import OutputMismatchError
from stagebeam.training_rows import export_rows


def test_rows_are_made_anew_when_the_run_holds_more(tmp_path: Path) -> None:
    first, second = accepted_row(QUESTION), accepted_row(replace(QUESTION, id="later"))
    run, rows = tmp_path / "run", tmp_path / "run" / "rows"
    annotation_run(run, [first])
    export_rows(run, rows, renew=True)
    annotation_run(run, [second])
    with pytest.raises(OutputMismatchError, match="accepted_rows"):
        export_rows(run, rows)
    export_rows(run, rows, renew=True)
    assert {row.id for row in read_training(rows / "direct")} == {"q/direct", "later/direct"}
