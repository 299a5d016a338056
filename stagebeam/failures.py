"""How a command ends when it fails: one clear line, an exit code, no traceback unless asked for."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from reasoning.errors import StagebeamError
from stagebeam.interrupts import heard_once

INTERRUPTED_EXIT_CODE = 130
UNEXPECTED_EXIT_CODE = 70


@contextmanager
def reported(*, debug: bool, on_interrupt: str) -> Iterator[None]:
    """Runs a command's body and turns what it raises into a message and ``SystemExit``.

    ``on_interrupt`` says how to go on after Ctrl-C. An error of the StagebeamError tree prints its
    message and exits with its ``exit_code``; any other one is a bug of ours or of a library and
    prints its traceback.
    """
    try:
        with heard_once():
            yield
    except KeyboardInterrupt:
        _say(f"stopped. {on_interrupt}")
        raise SystemExit(INTERRUPTED_EXIT_CODE) from None
    except Exception as error:  # noqa: BLE001 - the outermost frame: shown, never dropped
        known = find_known(error)
        if debug or known is None:
            traceback.print_exc(file=sys.stderr)
        if known is None:
            _say(f"unexpected {type(error).__name__}, see above: a fault in stagebeam or in a library")
            raise SystemExit(UNEXPECTED_EXIT_CODE) from None
        for line in message(known).splitlines():
            _say(line)
        raise SystemExit(known.exit_code) from None


def find_known(error: BaseException) -> StagebeamError | None:
    """The first error of our tree along the causes; Ray keeps a worker's error in ``cause``."""
    seen: set[int] = set()
    here: object = error
    while isinstance(here, BaseException) and id(here) not in seen:
        seen.add(id(here))
        inner = getattr(here, "cause", None)
        if isinstance(here, StagebeamError) and not isinstance(inner, StagebeamError):
            return here
        here = inner if isinstance(inner, BaseException) else (here.__cause__ or here.__context__)
    return None


def message(error: StagebeamError) -> str:
    """The text the error was raised with."""
    return str(error.args[0]) if error.args else str(error)


def _say(line: str) -> None:
    print(f"stagebeam: {line}", file=sys.stderr)
