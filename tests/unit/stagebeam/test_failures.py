"""What a failing command prints and which code it ends with."""

from __future__ import annotations

import pytest

from reasoning.errors import ConfigError, InputError, OutputMismatchError, PortInUseError, StagebeamError
from stagebeam.failures import reported


class WorkerError(Exception):
    """As Ray hands over an error of a worker: the original in ``cause``."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a long remote traceback")
        self.cause = cause


class WorkerInputError(WorkerError, InputError):
    """Ray's error, which is also an instance of the original's class."""


def end_of(error: BaseException, capsys: pytest.CaptureFixture[str], *, debug: bool = False) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught, reported(debug=debug, on_interrupt="Run it again."):
        raise error
    captured = capsys.readouterr()
    assert captured.out == ""
    assert isinstance(caught.value.code, int)
    return caught.value.code, captured.err


@pytest.mark.parametrize(
    ("cls", "code"), [(ConfigError, 2), (InputError, 2), (OutputMismatchError, 3), (PortInUseError, 4)]
)
def test_known_error_is_one_line_and_its_code(
    cls: type[StagebeamError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(cls("field is 3"), capsys) == (code, "stagebeam: field is 3\n")


def test_error_of_a_worker_is_told_as_its_cause(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of(WorkerError(ConfigError("a")), capsys) == (2, "stagebeam: a\n")
    assert end_of(WorkerInputError(InputError("b")), capsys) == (2, "stagebeam: b\n")


def test_error_behind_another_one_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    outer = RuntimeError("wrapped")
    outer.__cause__ = PortInUseError("port 1 is taken")
    assert end_of(outer, capsys) == (4, "stagebeam: port 1 is taken\n")


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = end_of(ConfigError("x"), capsys, debug=True)
    assert code == 2
    assert "Traceback" in text
    assert text.endswith("stagebeam: x\n")


def test_unknown_error_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = end_of(ZeroDivisionError("oh"), capsys)
    assert code == 70
    assert "Traceback" in text
    assert "unexpected ZeroDivisionError" in text


def test_interrupt_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of(KeyboardInterrupt(), capsys) == (130, "stagebeam: stopped. Run it again.\n")
