"""Input that cannot be used: one clear line on standard error, the class's exit code, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stagebeam.cli import app
from stagebeam.world.dataset import make_questions

QUESTION = "How many red objects are there?"


def refused(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and standard error; nothing may stand on standard output."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.exit_code, result.stderr


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (question,) = make_questions(1, seed=0, split="test")
    path = tmp_path / "scene.png"
    assert question.image is not None
    path.write_bytes(question.image.data or b"")
    return path


def test_missing_picture(tmp_path: Path) -> None:
    code, text = refused("ask", tmp_path / "none.png", QUESTION)
    assert (code, text) == (2, f"stagebeam: no image at {tmp_path / 'none.png'}\n")


def test_folder_for_a_picture(tmp_path: Path) -> None:
    code, text = refused("ask", tmp_path, QUESTION)
    assert code == 2
    assert text.startswith(f"stagebeam: cannot read image {tmp_path}: ")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda data: b"", "empty, no image in it"),
        (lambda data: b"just some text", "not an image"),
        (lambda data: data[: len(data) // 2], "truncated or broken image"),
    ],
)
def test_file_that_is_no_usable_picture(picture: Path, spoil: Callable[[bytes], bytes], complaint: str) -> None:
    picture.write_bytes(spoil(picture.read_bytes()))
    code, text = refused("ask", picture, QUESTION)
    assert code == 2
    assert text.startswith(f"stagebeam: {picture}: {complaint}")


def test_empty_question(picture: Path) -> None:
    assert refused("ask", picture, "  ") == (2, "stagebeam: the question is empty; say what to ask about the picture\n")


def test_empty_choice(picture: Path) -> None:
    code, text = refused("ask", picture, QUESTION, "--choice", "red", "--choice", "")
    assert code == 2
    assert "--choice is empty" in text


def test_url_and_model_together(picture: Path) -> None:
    code, text = refused("ask", picture, QUESTION, "--url", "http://127.0.0.1:1", "--model", "m")
    assert code == 2
    assert "exclude each other" in text


def test_missing_model(picture: Path, tmp_path: Path) -> None:
    code, text = refused("ask", picture, QUESTION, "--model", tmp_path)
    assert code == 2
    assert f"no model in {tmp_path}" in text


def test_service_that_is_not_there(picture: Path) -> None:
    code, text = refused("ask", picture, QUESTION, "--url", "http://127.0.0.1:9", "--set", "timeout_s=5")
    assert code == 6
    assert "No service answers at http://127.0.0.1:9" in text


@pytest.mark.parametrize("command", ["quickstart", "annotate", "train", "serve", "score", "evaluate", "judge-check"])
def test_unknown_key(command: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("ouput: somewhere\nzzz: 1\n")
    code, text = refused(command, "--config", file)
    assert code == 2
    assert f"stagebeam: {file}: unknown key `zzz`" in text


def test_missing_settings_file(tmp_path: Path) -> None:
    code, text = refused("score", "--config", tmp_path / "none.yaml")
    assert (code, text) == (2, f"stagebeam: {tmp_path / 'none.yaml'}: cannot be read: No such file or directory\n")


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_run_folder_that_is_something_else(tmp_path: Path, fresh: tuple[str, ...]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    result = CliRunner().invoke(app, ["quickstart", "--set", f"output={folder}", *fresh])
    assert result.exit_code == 3
    assert str(folder) in result.stderr
    assert (folder / "thesis.txt").read_text() == "precious"


def test_results_folder_without_answers(tmp_path: Path) -> None:
    results = f"results=[{{label: a, path: '{tmp_path}'}}]"
    code, text = refused("evaluate", "--set", results, "--set", f"output={tmp_path / 'out'}")
    assert code == 2
    assert "is no run folder" in text
