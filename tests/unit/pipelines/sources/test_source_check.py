"""The check of a folder: what is there, what is missing, three rows; and the commands that show it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mini_trees import LAYOUTS
from typer.testing import CliRunner, Result

from pipelines.schemas import read_questions
from pipelines.sources.base import SourceSpec
from pipelines.sources.check import check_source
from stagebeam.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["sources", *map(str, arguments)])


@pytest.mark.parametrize("name", LAYOUTS)
def test_check_counts_what_a_tree_holds(name: str, tmp_path: Path) -> None:
    tree = LAYOUTS[name](tmp_path / name)
    check = check_source(SourceSpec(path=tree.root, image_root=tree.image_root))
    assert check.info.name == tree.name
    assert check.missing_files == []
    assert (check.questions.total(), check.faults, check.doubles) == (tree.questions, tree.faults, tree.doubles)
    assert check.skipped == tree.skipped
    assert (check.missing_images, len(check.missing_examples)) == (tree.missing_images, tree.missing_images)
    assert len(check.samples) == min(3, tree.questions)


def test_check_names_missing_files_and_compares_counts(tmp_path: Path) -> None:
    tree = LAYOUTS["sharegpt4v"](tmp_path / "data")
    check = check_source(SourceSpec(path=tree.root))
    # Six rows of one or two turns are usable, one more is in the other file.
    assert check.counted() == {"cap100k": (1, 102025), "mix665k": (5, 665058)}
    for path in sorted((tree.root / "data").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    check = check_source(SourceSpec(path=tree.root))
    assert [file.pattern for file in check.missing_files] == ["data/*/"]
    assert check.missing_images == 6


def test_sources_lists_all_of_them() -> None:
    result = run()
    assert result.exit_code == 0
    for words in ("sharegpt4v", "31.3k", "CC BY-NC 4.0", "train 28,299", "relationship.json", "webdataset"):
        assert words in result.output


def test_sources_check_shows_three_rows(tmp_path: Path) -> None:
    tree = LAYOUTS["docvqa"](tmp_path / "docvqa")
    result = run("check", tree.root, "--split", "train")
    assert result.exit_code == 0
    assert "train: 4 questions of 39,463 in the official release" in result.output
    assert "1 questions whose picture is not there" in result.output
    assert "3. what is the date mentioned in this letter?" in result.output
    assert run("check", tree.root, "--as", "docvqq").exit_code == 2
    assert run("check", tmp_path / "none").exit_code == 2


def test_sources_prepare_writes_what_it_says(tmp_path: Path) -> None:
    tree = LAYOUTS["clevr"](tmp_path / "clevr")
    arguments = ("prepare", tree.root, "--split", "train", "--take", "4", "--seed", "9", "--output", tmp_path / "out")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "clevr: 4 questions, 4 entries of 4 asked for" in result.output
    assert sum(1 for _ in read_questions(tmp_path / "out")) == 4
    assert "done before" in run(*arguments).output


def test_sources_prepare_reads_a_mix(tmp_path: Path) -> None:
    for name in ("clevr", "pisc"):
        LAYOUTS[name](tmp_path / "data" / name)
    mix = tmp_path / "mix.yaml"
    mix.write_text("sources: [{path: clevr, split: train, take: 2}, {path: pisc}]\nseed: 3\noutput: out\n")
    result = run("prepare", "--config", mix, "--set", f"root={tmp_path / 'data'}", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [row.source for row in read_questions(tmp_path / "out")] == ["clevr"] * 2 + ["pisc"] * 4


def test_sources_prepare_wants_a_path_or_a_mix(tmp_path: Path) -> None:
    assert run("prepare").exit_code == 2
    assert run("prepare", tmp_path, "--config", tmp_path / "mix.yaml").exit_code == 2
    (tmp_path / "mix.yaml").write_text("sources: [{path: x}]\noutput: out\n")
    assert run("prepare", "--config", tmp_path / "mix.yaml", "--take", "3").exit_code == 2


@pytest.mark.parametrize("command", [(), ("check",), ("prepare",)])
def test_help_ends_with_an_example(command: tuple[str, ...]) -> None:
    text = " ".join(run(*command, "--help").output.split())
    assert f"Example: stagebeam sources {' '.join(command)}".strip() in text
