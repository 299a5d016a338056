"""A real data set of pictures, as its package ships it, through the real commands: checked, annotated, exported."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import easy_vqa
import pytest
from PIL import Image

from pipelines.annotations import ACCEPTED, REJECTED, read_annotated
from pipelines.schemas import question_from_row
from reasoning.grading import is_correct
from stagebeam.standin.faults import StandInConfig
from stagebeam.standin.process import start_standin
from tests.e2e.conftest import Command

DATA = Path(easy_vqa.__file__).parent / "data"
ROWS = 120


@pytest.mark.timeout(400)
def test_easy_vqa_is_annotated_over_http(stagebeam: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    checked = stagebeam("sources", "check", DATA)
    assert checked.returncode == 0, checked.stderr
    assert "easy_vqa" in checked.stdout
    # A fifth of the answers is wrong in some way at first.
    with start_standin(StandInConfig(seed=4, missing_tag=0.08, wrong_answer=0.08, refusal=0.04)) as standin:
        annotate = (
            "annotate",
            "--set",
            f"sources=[{{path: {DATA}, take: {ROWS}}}]",
            "--output",
            run,
            "--set",
            f"teacher={{base_url: {standin.base_url}, model: {standin.model}, prompt_dollars_per_million: 2.5, "
            "generated_dollars_per_million: 10}",
        )
        dry = stagebeam(*annotate, "--dry-run")
        assert dry.returncode == 0, dry.stderr
        assert "prompt 3 of 3" in dry.stdout
        assert f"{ROWS} rows to ask" in dry.stdout
        assert standin.stats()["calls"] == {}
        done = stagebeam(*annotate)
        assert done.returncode == 0, done.stderr
        calls = standin.stats()["calls"]
    assert f"{ROWS} questions" in done.stdout
    assert "p99" in done.stdout
    accepted, rejected = (list(read_annotated(run, part)) for part in (ACCEPTED, REJECTED))
    assert len(accepted) + len(rejected) == ROWS
    assert len(accepted) > 0.8 * ROWS
    assert all(is_correct(question_from_row(row), row["conclusion"]) for row in accepted)
    assert all(Image.open(row["image"]["uri"]).size == (64, 64) for row in accepted)
    result = json.loads((run / "run.json").read_text())["result"]
    assert result["rejected"] == dict(Counter(row["reason"] for row in rejected))
    assert result["calls"] == sum(calls.values()) == result["paid_calls"]
    assert result["dollars"] == pytest.approx(
        (2.5 * result["prompt_tokens"] + 10 * result["generated_tokens"]) / 1e6, rel=1e-3
    )
    assert set(result["latency_s"]) == {"p50", "p90", "p99"}
    assert (run / "README.md").read_text().startswith("---\n")
    exported = stagebeam("export", run, "--format", "llamafactory", "--output", tmp_path / "export")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "export" / "dataset_info.json").is_file()
