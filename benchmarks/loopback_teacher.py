"""A teacher that costs almost nothing: every call answered alike, after a pause, in a process of its own.

What a benchmark of the client needs: the server must not be what is measured. It reads no more of
a request than where it ends. ``with LoopbackTeacher(...) as teacher`` starts and ends it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.request import ProxyHandler, build_opener

_READY = "ready"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the teacher counted since it was last asked. Times are of the clock that all processes share."""

    calls: int
    most_in_flight: int
    first: float
    """When the first request had come."""
    last: float
    """When the last reply went."""
    rate: float
    """Replies a second, without the round of calls that began it and the one that ended it."""
    cpu_s: float


class _Counts:
    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.in_flight = self.most = 0
        self.first = 0.0
        self.replies: list[float] = []
        self.cpu = time.process_time()

    def seen(self) -> Seen:
        last = self.replies[-1] if self.replies else self.first
        return Seen(
            calls=len(self.replies),
            most_in_flight=self.most,
            first=self.first,
            last=last,
            rate=steady_rate(self.replies, self.first + 1.5 * self.latency_s, last - self.latency_s, self.latency_s),
            cpu_s=time.process_time() - self.cpu,
        )


def steady_rate(times: Sequence[float], start: float, end: float, ramp: float) -> float:
    """Events a second from ``start`` to ``end``; those within ``ramp`` of either count by how far inside they are.

    Calls that began together end together, for a while: a window with hard edges would hold one
    burst too many or too few.
    """
    if end - start <= 2 * ramp:
        return 0.0
    weights = (min(1.0, (at - start) / ramp, (end - at) / ramp) if ramp else 1.0 for at in times if start <= at <= end)
    return sum(weights) / (end - start - ramp)


class _Server:
    def __init__(self, latency_s: float, reply: str, prompt_tokens: int, generated_tokens: int) -> None:
        self.latency_s = latency_s
        self.counts = _Counts(latency_s)
        message = {"role": "assistant", "content": reply, "refusal": None}
        body = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "loopback",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": generated_tokens,
                "total_tokens": prompt_tokens + generated_tokens,
            },
        }
        self.reply = _response(body)
        self.models = _response({"object": "list", "data": [{"id": "loopback", "object": "model"}]})


class _Connection(asyncio.Protocol):
    """One keep-alive connection; a request at a time, as HTTP/1.1 clients do."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._parts: list[bytes] = []
        self._missing = -1

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if self._missing < 0:
            head, end, rest = b"".join(self._parts).partition(b"\r\n\r\n")
            if not end:
                return
            if head.startswith(b"GET"):
                self._parts.clear()
                self._answer_get(head)
                return
            self._missing = _content_length(head) - len(rest)
        else:
            self._missing -= len(data)
        if self._missing <= 0:
            self._parts.clear()
            self._missing = -1
            self._answer_call()

    def _answer_get(self, head: bytes) -> None:
        if b" /stats " not in head[:40]:
            self._transport.write(self._server.models)
            return
        self._transport.write(_response(asdict(self._server.counts.seen())))
        self._server.counts = _Counts(self._server.latency_s)

    def _answer_call(self) -> None:
        counts = self._server.counts
        counts.first = counts.first or time.monotonic()
        counts.in_flight += 1
        counts.most = max(counts.most, counts.in_flight)
        if self._server.latency_s:
            asyncio.get_running_loop().call_later(self._server.latency_s, self._finish, counts)
        else:
            self._finish(counts)

    def _finish(self, counts: _Counts) -> None:
        counts.in_flight -= 1
        counts.replies.append(time.monotonic())
        self._transport.write(self._server.reply)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _response(body: object) -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class LoopbackTeacher:
    """Starts the server in a process of its own; ``base_url`` is where it listens."""

    def __init__(
        self, reply: str, *, latency_s: float = 1.0, prompt_tokens: int = 900, generated_tokens: int = 250
    ) -> None:
        self._settings = [latency_s, reply, prompt_tokens, generated_tokens]
        self.base_url = ""

    def __enter__(self) -> LoopbackTeacher:
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.loopback_teacher"),
                    *(str(listener.fileno()), json.dumps(self._settings)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[listener.fileno()],
                text=True,
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != _READY:
            raise SystemExit("the loopback teacher did not start")
        return self

    def seen(self) -> Seen:
        """The counts so far; they begin anew."""
        with build_opener(ProxyHandler({})).open(self.base_url.removesuffix("/v1") + "/stats", timeout=10) as reply:
            return Seen(**json.load(reply))

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def main(arguments: Sequence[str]) -> None:
    """Arguments: the number of a listening socket, and the settings as a JSON list. Ends with its standard input."""
    latency_s, reply, prompt_tokens, generated_tokens = json.loads(arguments[1])

    async def serve() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        server = _Server(latency_s, reply, prompt_tokens, generated_tokens)
        listening = await loop.create_server(lambda: _Connection(server), sock=socket.socket(fileno=int(arguments[0])))

        def wait_for_end() -> None:
            sys.stdin.buffer.read()
            loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=wait_for_end, daemon=True).start()
        print(_READY, flush=True)
        async with listening:
            await ended.wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main(sys.argv[1:])
