"""Ctrl-C that is heard once: the first one unwinds, further ones do not disturb the clean-up."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = b"\nstagebeam: stopping, this may take some seconds\n"


@contextmanager
def heard_once() -> Iterator[None]:
    """The first SIGINT or SIGTERM in the block raises KeyboardInterrupt; the next ones do nothing.

    Outside the main thread, where Python lets nobody set handlers, the block runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_stopping
        if is_stopping:
            return
        is_stopping = True
        # No print: the signal may have come in the middle of one.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, STOPPING)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Puts the handlers of SIGINT and SIGTERM back after a library that sets its own.

    Ray Train is such a library. An interrupt that it took, however it passes it on (it ends the
    process), becomes a KeyboardInterrupt that ``heard_once`` knows of.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    is_interrupted = False
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        is_interrupted = True
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if is_interrupted:
        # Through the handler that is back, so that it knows; it does nothing when it knew already.
        signal.raise_signal(signal.SIGINT)
        raise KeyboardInterrupt
