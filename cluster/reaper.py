"""Ends what a killed process left of its Ray.

Run as ``python -m cluster.reaper`` by ``cluster.connect``, which writes down the processes it
started and holds the other end of the pipe. When that end closes, those of them that are still
there after a moment are ended. Ray's agents would otherwise stay for more than a minute.
"""

from __future__ import annotations

import json
import sys

import psutil

_GRACE_S = 5.0
"""Ray's own processes notice by themselves; only stragglers are ended."""


def main() -> None:
    """Read ``[[pid, start time], …]``, one JSON line, then wait for the end of standard input."""
    line = sys.stdin.readline()
    sys.stdin.read()
    left = [process for pid, started in json.loads(line or "[]") if (process := find(pid, started)) is not None]
    _, left = psutil.wait_procs(left, timeout=_GRACE_S)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def find(pid: int, started: float) -> psutil.Process | None:
    """The process of that id, unless the id has gone to another one since."""
    try:
        process = psutil.Process(pid)
        return process if process.create_time() == started else None
    except psutil.NoSuchProcess:
        return None


if __name__ == "__main__":
    main()
