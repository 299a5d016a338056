"""Start a stand-in teacher in a process of its own, and end it.

The process ends with the ``with`` block, and when this process ends in any other way: it watches a
pipe whose other end only this process holds.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reasoning.errors import PortInUseError, TeacherError
from stagebeam.standin.faults import StandInConfig

MODEL_NAME = "stagebeam-stand-in-teacher"
READY = "ready"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A running stand-in teacher."""

    base_url: str
    """For an OpenAI client: ``http://127.0.0.1:<port>/v1``."""
    model: str
    pid: int

    def stats(self) -> dict[str, Any]:
        """Calls by kind, faults, HTTP statuses so far."""
        url = self.base_url.removesuffix("/v1") + "/stats"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as response:
            return dict(json.load(response))


@contextmanager
def start_standin(config: StandInConfig | None = None, *, port: int = 0) -> Iterator[StandIn]:
    """A stand-in teacher on loopback for the body of the ``with``; ``port`` 0 takes a free one.

    Raises PortInUseError, and TeacherError when it does not come up.
    """
    listener = _listen(port)
    try:
        process = _spawn(listener, config or StandInConfig())
        address = listener.getsockname()
    finally:
        listener.close()
    try:
        _await_ready(process)
        yield StandIn(base_url=f"http://127.0.0.1:{address[1]}/v1", model=MODEL_NAME, pid=process.pid)
    finally:
        _stop(process)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"port {port} on 127.0.0.1 cannot be taken: {error.strerror}; 0 takes a free one"
        ) from error
    return listener


def _spawn(listener: socket.socket, config: StandInConfig) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "stagebeam.standin", str(listener.fileno()), config.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(listener.fileno(),),
        # Ctrl-C is for us: the stand-in goes when we say so, after its last answers.
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _await_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _START_TIMEOUT_S)
    line = process.stdout.readline().strip() if ready else b""
    if line != READY.encode():
        raise TeacherError(f"the stand-in teacher did not start: exit code {process.poll()}, it said {line!r}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Close its input, which it takes as its end; if it does not, end it by its id."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()
