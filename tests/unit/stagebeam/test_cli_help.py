"""Help: there at once, with an example for each command."""

from __future__ import annotations

import re
import resource
import shlex
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from stagebeam.cli import app

COMMANDS = ("quickstart", "annotate", "train", "serve", "ask", "score", "calibrate", "evaluate", "judge-check",
            "export", "decontaminate")  # fmt: skip


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0
    return " ".join(result.output.split())


def test_help_lists_every_command() -> None:
    text = help_of()
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_settings_and_ends_with_an_example(command: str) -> None:
    text = help_of(command)
    assert "--config FILE" in text
    assert "--set KEY=VALUE" in text
    example = shlex.split(text.partition("Example: ")[2])
    assert example[:2] == ["stagebeam", command]
    options = {word for word in example if word.startswith("--")}
    assert all(re.search(rf"{option}\b", text.partition("Example: ")[0]) for option in options)


def test_help_costs_less_than_a_second() -> None:
    def cpu_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    # CPU time, not wall time: what else runs on the machine is not the command's.
    before = cpu_seconds()
    subprocess.run([sys.executable, "-m", "stagebeam", "--help"], check=True, capture_output=True)
    assert cpu_seconds() - before < 1


def test_no_command_prints_help_and_fails() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "Commands" in result.output


def test_unknown_command_names_the_nearest() -> None:
    result = CliRunner().invoke(app, ["scor"])
    assert result.exit_code == 2
    assert "score" in result.output
