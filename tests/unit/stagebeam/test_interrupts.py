"""Ctrl-C: heard once, and handlers that a library replaced come back."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from stagebeam.interrupts import handlers_kept, heard_once


def clean_up_disturbed(log: list[str], work: Callable[[], None]) -> None:
    """Work under ``heard_once`` whose clean-up gets two more signals."""
    with heard_once():
        try:
            work()
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            log.append("cleaned")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_interrupts_and_the_next_let_the_clean_up_finish(number: signal.Signals) -> None:
    log: list[str] = []
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        clean_up_disturbed(log, lambda: signal.raise_signal(number))
    assert log == ["cleaned"]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("end", [lambda *_: sys.exit(0), signal.default_int_handler])
def test_library_that_takes_an_interrupt_for_itself_interrupts_all_the_same(end: Any) -> None:
    def library() -> None:
        with handlers_kept():
            signal.signal(signal.SIGINT, end)
            signal.raise_signal(signal.SIGINT)

    log: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        clean_up_disturbed(log, library)
    assert log == ["cleaned"]


def test_handlers_come_back_after_a_library_that_ends_well() -> None:
    before = signal.getsignal(signal.SIGINT)
    with handlers_kept():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is before
