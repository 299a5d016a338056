"""A client that hangs up ends the work that was done for it, down to the engine."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ray import cloudpickle, serve
from ray.serve.config import HTTPOptions

from reasoning.protocols import ContinuationReply, ContinuationRequest
from serve.app import build_app
from serve.config import EngineKind, PoolConfig, ServeConfig, Topology
from serve.replicas import EngineReplica


class HangingReplica(EngineReplica):
    """Never answers; leaves a file when it is called and one when the call is cancelled."""

    def __init__(self, config: ServeConfig, pool: PoolConfig) -> None:
        self._folder = config.model

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        (self._folder / "called").touch()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            (self._folder / "cancelled").touch()
            raise
        return []


def comes(path: Path, timeout_s: float = 20) -> bool:
    """Whether the file is there, now or within the time; it is taken away again."""
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    path.unlink()
    return True


@contextmanager
def client_that_hangs_up(port: int, *, stream: bool) -> Iterator[None]:
    """A client that has asked while the block runs and hangs up at its end."""
    body = {"model": "stagebeam", "messages": [{"role": "user", "content": "How many?"}], "stream": stream}
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head.encode() + content)
        yield


def test_hanging_up_cancels_the_engines_call(ray_local: object, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = ServeConfig(model=tmp_path, engine=EngineKind.SCRIPTED, port=port, topology=Topology.SHARED)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    try:
        serve.run(build_app(config, HangingReplica), name="stagebeam")
        for stream in (False, True):
            with client_that_hangs_up(port, stream=stream):
                assert comes(tmp_path / "called")
            assert comes(tmp_path / "cancelled")
    finally:
        serve.shutdown()
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
