"""What a run tells its caller: live progress, and the summary at the end.

The board is an actor without a CPU. Rank 0 writes to it without waiting and the driver reads it
twice a second; Ray Train's own ``report`` is a barrier over all workers and is kept for checkpoints.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog


@dataclass(frozen=True, kw_only=True)
class TrainProgress:
    """Where a run stands: ``loss`` is the mean since the last report, over all workers."""

    step: int
    total_steps: int
    loss: float
    learning_rate: float
    samples_per_second: float
    epoch: int
    restarts: int


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """What a finished run leaves: ``losses`` and ``eval_losses`` are pairs of step and mean loss.

    ``seconds`` is the wall clock of this call, start of the workers and export included;
    ``samples_per_second`` is the rate of the training loop alone, over all workers, or 0 where this
    call found the run finished.
    """

    model_dir: Path
    losses: tuple[tuple[int, float], ...]
    eval_losses: tuple[tuple[int, float], ...] = ()
    steps: int
    seconds: float
    samples_per_second: float = 0.0
    restarts: int = 0
    rows: dict[str, int] = field(default_factory=dict)


class ProgressBoard:
    """The newest progress and how often the workers were started; a plain class, made an actor by the launcher."""

    def __init__(self) -> None:
        self._starts = 0
        self._news: list[TrainProgress] = []

    def started(self) -> int:
        """Rank 0 begins; the answer is how many starts came before."""
        self._starts += 1
        return self._starts - 1

    def post(self, progress: TrainProgress) -> None:
        """One more reading, in the order of the steps."""
        self._news.append(progress)

    def take(self) -> list[TrainProgress]:
        """The readings since the last call."""
        news, self._news = self._news, []
        return news

    def restarts(self) -> int:
        """How often the workers were started again."""
        return max(0, self._starts - 1)


class BoardReader:
    """Hands the board's readings to ``on_progress`` from a thread of its own while a ``with`` block runs.

    ``take`` fetches what is new. An error of ``on_progress`` is logged once and ends the readings,
    not the training; it is raised again when the block ends without another error.
    """

    def __init__(
        self,
        take: Callable[[], list[TrainProgress]],
        on_progress: Callable[[TrainProgress], None],
        period_s: float = 0.5,
    ) -> None:
        self._take = take
        self._on_progress = on_progress
        self._period_s = period_s
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="train-progress", daemon=True)

    def __enter__(self) -> BoardReader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        log: Any = structlog.get_logger("stagebeam.train")
        try:
            while not self._stop.wait(self._period_s):
                self._hand_over()
            self._hand_over()
        except Exception as error:  # noqa: BLE001 - kept and raised again by __exit__
            log.warning("progress_ended", error=repr(error))
            self._error = error

    def _hand_over(self) -> None:
        for progress in self._take():
            self._on_progress(progress)
