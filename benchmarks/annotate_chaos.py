"""Annotation under SIGKILL: rows lost, rows doubled, finished calls paid again.

Each run annotates questions with the real command against the stand-in teacher over HTTP. At a
random moment the driver, an annotation actor, the governor or the teacher is killed; then the run
is resumed until it is finished. Calls are counted by the teacher, which writes down each one it has
answered; those that were finished when the kill came are the ones in the request cache just after
it. The page is ``annotate_chaos.md``; the test in ``tests/e2e/test_annotate_chaos.py`` does a few
such runs.

    python -m benchmarks.annotate_chaos --runs 24
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from actors.request_cache import stored_keys
from pipelines.annotations import ACCEPTED, REJECTED, read_annotated
from pipelines.schemas import write_questions
from stagebeam.standin.faults import StandInConfig
from stagebeam.standin.ledger import read_ledger
from stagebeam.standin.process import start_standin
from stagebeam.world.dataset import make_questions

VICTIMS = ("driver", "actor", "teacher", "governor")
ROWS = 150
FAULTS = {"missing_tag": 0.1, "wrong_answer": 0.1, "refusal": 0.05, "truncated": 0.0, "leak": 0.0}
LATE_S = 0.15
LONGEST_S = 240.0
MOST_PARTS = 8


@dataclass
class Outcome:
    """What one run, killed and resumed, came to."""

    victim: str
    killed_at: int
    """Calls that the teacher had answered when the kill came."""
    parts: int = 0
    """How often the command was started."""
    calls: int = 0
    """Calls that the teacher answered, all parts together."""
    lost: int = 0
    doubled: int = 0
    paid_again: int = 0
    """Calls that were finished when the kill came and were answered once more."""
    on_the_way: int = 0
    """Calls that the teacher had answered and nobody had received: asked again, as nobody knows of them."""
    exit_codes: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.paid_again) and self.exit_codes[-1:] == [0]


def chaos_run(folder: Path, *, victim: str, seed: int, rows: int = ROWS) -> Outcome:
    """One run in ``folder``: kill ``victim`` once, resume until the run is finished, count."""
    started = time.monotonic()
    questions = make_questions(rows, seed=seed, split="train")
    write_questions(folder / "questions", questions, rows_per_file=rows)
    outcome = Outcome(victim=victim, killed_at=random.Random(seed).randint(5, int(rows * 0.9)))
    ledger = folder / "ledger.txt"
    with _Teacher(folder, seed) as teacher:
        config = _write_config(folder, teacher.port)
        finished: set[str] | None = None
        counted = 0
        while outcome.parts < MOST_PARTS and outcome.exit_codes[-1:] != [0]:
            outcome.parts += 1
            with _command(config, folder / f"part-{outcome.parts}.log") as process:
                if finished is None and _await_calls(process, ledger, outcome.killed_at):
                    _kill(process, victim, teacher)
                    finished = set(stored_keys(folder / "run" / "calls"))
                    counted = len(read_ledger(ledger))
                    if victim == "teacher":
                        time.sleep(1.0)
                        teacher.start()
                outcome.exit_codes.append(process.wait(LONGEST_S))
        if finished is None:
            raise RuntimeError(f"the run ended with {outcome.exit_codes} before anything was killed; see {folder}")
    keys = read_ledger(ledger)
    outcome.calls = len(keys)
    outcome.paid_again = sum(key in finished for key in keys[counted:])
    outcome.on_the_way = len(keys) - len(set(keys)) - outcome.paid_again
    found = Counter(
        row["id"] for part in (ACCEPTED, REJECTED) for row in read_annotated(folder / "run", part, columns=["id"])
    )
    outcome.lost = len({q.id for q in questions} - set(found))
    outcome.doubled = sum(count - 1 for count in found.values())
    outcome.seconds = time.monotonic() - started
    return outcome


class _Teacher:
    """A stand-in on a port of its own that can be killed and started again."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._config = StandInConfig(
            seed=seed,
            stubborn=0.3,
            rate_limits=0,
            server_errors=0,
            slow=1.0,
            slow_s=LATE_S,
            ledger=str(folder / "ledger.txt"),
            **FAULTS,  # type: ignore[arg-type]
        )
        self._stack = contextlib.ExitStack()
        self.port = 0
        self.pid = 0

    def __enter__(self) -> _Teacher:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start it, again if it was killed."""
        self.pid = self._stack.enter_context(start_standin(self._config, port=self.port)).pid


def _write_config(folder: Path, port: int) -> Path:
    settings = {
        "input": str(folder / "questions"),
        "output": str(folder / "run"),
        "shard_rows": 16,
        "teacher": {
            "base_url": f"http://127.0.0.1:{port}/v1",
            "model": "stagebeam-stand-in-teacher",
            "max_in_flight": 16,
            "backoff_s": 0.2,
        },
    }
    file = folder / "annotate.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@contextlib.contextmanager
def _command(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "stagebeam", "annotate", "--config", str(config), "--debug"],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _await_calls(process: subprocess.Popen[bytes], ledger: Path, wanted: int) -> bool:
    """Whether the teacher has answered so many calls while the command was running."""
    deadline = time.monotonic() + LONGEST_S
    while process.poll() is None and time.monotonic() < deadline:
        if len(read_ledger(ledger)) >= wanted:
            return True
        time.sleep(0.01)
    return False


def _kill(process: subprocess.Popen[bytes], victim: str, teacher: _Teacher) -> None:
    match victim:
        case "driver":
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        case "teacher":
            os.kill(teacher.pid, signal.SIGKILL)
        case "actor":
            _kill_worker(process, "AnnotateShards")
        case "governor":
            _kill_worker(process, "Governor")
        case _:
            raise ValueError(f"victim {victim!r} is none of {VICTIMS}")


def _kill_worker(process: subprocess.Popen[bytes], name: str) -> None:
    """Kill the Ray worker whose title holds ``name``; a descendant of the command, so nobody else's."""
    found: list[psutil.Process] = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            title = " ".join(child.cmdline())
            if title.startswith("ray::") and name in title:
                found.append(child)
    if not found:
        raise RuntimeError(f"no Ray worker named {name} below process {process.pid}")
    found[0].kill()


def describe(outcomes: Sequence[Outcome]) -> str:
    """The table of the page."""
    lines = ["| killed | runs | lost | doubled | finished calls paid again | answered on the way and asked again |"]
    lines.append("|---|---|---|---|---|---|")
    for victim in [*VICTIMS, "all"]:
        chosen = [o for o in outcomes if victim in ("all", o.victim)]
        if chosen:
            sums = [sum(getattr(o, name) for o in chosen) for name in ("lost", "doubled", "paid_again", "on_the_way")]
            lines.append(f"| {victim} | {len(chosen)} | " + " | ".join(str(n) for n in sums) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    outcomes: list[Outcome] = []
    for number in range(given.runs):
        victim = VICTIMS[number % len(VICTIMS)]
        with tempfile.TemporaryDirectory(prefix="sb-chaos-") as name:
            outcome = chaos_run(Path(name), victim=victim, seed=given.seed + number, rows=given.rows)
        outcomes.append(outcome)
        print(json.dumps(vars(outcome)), flush=True)
    print(describe(outcomes))
    sys.exit(0 if all(o.is_clean for o in outcomes) else 1)


if __name__ == "__main__":
    main()
