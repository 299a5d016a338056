"""Real processes: the command as a user runs it, and a look at what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
MARK = "STAGEBEAM_TEST_MARK"


@dataclass(frozen=True)
class Command:
    """Runs ``stagebeam`` with a home folder of its own; every process it starts carries ``mark``."""

    home: Path
    mark: str

    @property
    def environment(self) -> dict[str, str]:
        quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        return {**os.environ, **quiet, "HOME": str(self.home), MARK: self.mark}

    def __call__(self, *arguments: str | Path, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """Run to the end; the exit code is the caller's to look at."""
        return subprocess.run(
            self._line(arguments),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @contextmanager
    def started(self, *arguments: str | Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Start it in a process group of its own, as a shell does; killed if it is still there at the end."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._line(arguments),
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def left_over(self, patience_s: float = 5) -> list[str]:
        """Command lines of processes with our mark that are still there after ``patience_s``."""
        deadline = time.monotonic() + patience_s
        while (found := self._marked()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _marked(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(" ".join(process.cmdline()))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def _line(self, arguments: Sequence[str | Path]) -> list[str]:
        return [sys.executable, "-m", "stagebeam", *map(str, arguments)]


@pytest.fixture
def stagebeam(tmp_path: Path) -> Command:
    home = tmp_path / "home"
    home.mkdir()
    return Command(home=home, mark=uuid.uuid4().hex)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of the right form: what it says is nonsense, how it is handled is real."""
    from actors.engines.tiny import build_tiny_mllama

    folder = tmp_path_factory.mktemp("tiny-model")
    build_tiny_mllama(folder)
    return folder


def wait_for(log: Path, text: str, process: subprocess.Popen[bytes], timeout_s: float = 180) -> None:
    """Wait until ``text`` stands in the log; fails when the process ends first or the time is over."""
    deadline = time.monotonic() + timeout_s
    while text not in log.read_text(errors="replace"):
        assert process.poll() is None, f"ended with {process.poll()}: {log.read_text(errors='replace')}"
        assert time.monotonic() < deadline, f"no {text!r} in {log.read_text(errors='replace')}"
        time.sleep(0.1)
