"""The card says what was made of what, and nothing of the machine it was made on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from annotation_cases import QUESTION, accepted_row, annotation_run
from export_cases import made_up_run, rows

from cluster.storage import RunFolder
from pipelines.card_facts import gather_facts
from pipelines.dataset_card import Layout, hub_licence, render_card, write_card
from pipelines.exports.config import ExportConfig, ExportFormat
from pipelines.exports.run import run_export
from pipelines.schemas import read_rows, read_training
from pipelines.sources.base import SourceInfo
from reasoning.errors import InputError

KNOWN = {
    "talk": SourceInfo(name="talk", title="Talk", task="t", licence="CC BY-NC 4.0", where="https://x.y", files=()),
}
LAYOUT = Layout(title="A title", data_files="data/*.parquet", files=[("data/", "rows")], records=7)


def header(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    found = yaml.safe_load(head)
    assert isinstance(found, dict)
    return found


def run_with_rejects(folder: Path) -> Path:
    rejected = [
        {**accepted_row(QUESTION), "id": f"r{n}", "is_accepted": False, "reason": reason, "dollars": 0.25}
        for n, reason in enumerate(["refusal", "length", "refusal"])
    ]
    return annotation_run(folder / "run", rows(folder), rejected)


def test_card_counts_sources_rejects_and_cost(tmp_path: Path) -> None:
    facts = gather_facts(run_with_rejects(tmp_path))
    text = render_card(facts, LAYOUT, known=KNOWN)
    assert "| talk | - | 4 | 0 | CC BY-NC 4.0 | https://x.y |" in text
    assert "| quiz | - | 3 | 0 | not known | not known |" in text
    assert "| (none) | - | 0 | 3 | not known | not known |" in text
    assert text.index("| refusal | 2 |") < text.index("| length | 1 |")
    assert "10 calls, 10 prompt and 10 generated tokens, 0.75 dollars" in text
    assert "7 accepted of 10 annotated questions, in 5 conversations" in text
    assert "written by `t` (7 rows)" in text
    assert "2411.10440" in text
    assert "licence is not known here for: (none), quiz" in text


def test_header_is_what_the_hub_reads(tmp_path: Path) -> None:
    found = header(render_card(gather_facts(run_with_rejects(tmp_path)), LAYOUT, known=KNOWN))
    assert found["license"] == ["cc-by-nc-4.0", "other"]
    assert found["size_categories"] == ["n<1K"]
    assert found["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}
    ]


@pytest.mark.parametrize(
    ("stated", "name"),
    [("CC BY 4.0", "cc-by-4.0"), ("CC-BY-NC-4.0", "cc-by-nc-4.0"), ("MIT", "mit"), ("Apache-2.0", "apache-2.0"),
     ("terms of the RRC challenge", "other"), ("", "other")],
)  # fmt: skip
def test_licences_are_named_as_the_hub_does(stated: str, name: str) -> None:
    assert hub_licence(stated) == name


def test_card_of_a_run_tells_nothing_of_the_machine(tmp_path: Path) -> None:
    identity = {"input": str(tmp_path / "secret-place"), "teacher": {"model": "m"}, "verify": {"resolve": False}}
    with RunFolder(tmp_path / "run", kind="annotate", identity=identity):
        pass
    write_card(tmp_path / "run", known={})
    text = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "`resolve: false`" in text
    assert "No row was rejected." in text
    assert "was not finished" in text
    with pytest.raises(InputError, match="no run folder"):
        write_card(tmp_path, known={})


@pytest.mark.parametrize("form", list(ExportFormat))
def test_every_export_has_a_card_that_names_its_files(tmp_path: Path, form: ExportFormat) -> None:
    run = made_up_run(tmp_path)
    outcome = run_export(ExportConfig(run=str(run), format=form, output=tmp_path / "out"))
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    pattern = header(text)["configs"][0]["data_files"][0]["path"]
    files = sorted((tmp_path / "out").glob(pattern))
    assert files
    assert str(tmp_path) not in text
    assert f"{outcome.records:,} records" in text
    if form is ExportFormat.PARQUET:
        assert len(list(read_training(files[0]))) == outcome.records == 7
    elif form is ExportFormat.TRL:
        assert len(list(read_rows(files[0]))) == outcome.records == 5
    else:
        assert len(files[0].read_text(encoding="utf-8").splitlines()) == outcome.records == 5
