"""How readings reach the caller while a run works."""

from __future__ import annotations

import threading

import pytest

from train.progress import BoardReader, ProgressBoard, TrainProgress


def _progress(step: int) -> TrainProgress:
    return TrainProgress(
        step=step, total_steps=9, loss=1.0, learning_rate=0.1, samples_per_second=5.0, epoch=0, restarts=0
    )


def test_every_reading_is_handed_over_once_and_in_order() -> None:
    board, seen = ProgressBoard(), []
    first = threading.Event()

    def on_progress(progress: TrainProgress) -> None:
        seen.append(progress.step)
        first.set()

    with BoardReader(board.take, on_progress, period_s=0.01):
        board.post(_progress(1))
        assert first.wait(5)
        board.post(_progress(2))
        board.post(_progress(3))
    assert seen == [1, 2, 3]


def test_error_of_the_caller_does_not_stop_the_run_and_is_raised_after_it() -> None:
    board = ProgressBoard()
    failed = threading.Event()
    finished: list[bool] = []

    def on_progress(progress: TrainProgress) -> None:
        failed.set()
        raise ValueError("no terminal")

    def run() -> None:
        with BoardReader(board.take, on_progress, period_s=0.01):
            finished.append(failed.wait(5))

    board.post(_progress(1))
    with pytest.raises(ValueError, match="no terminal"):
        run()
    assert finished == [True]


def test_restarts_are_starts_after_the_first() -> None:
    board = ProgressBoard()
    assert [board.restarts(), board.started(), board.started(), board.restarts()] == [0, 0, 1, 1]
