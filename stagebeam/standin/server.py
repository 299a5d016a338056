"""The stand-in as an HTTP server on a socket that its starter hands over.

Run as ``python -m stagebeam.standin``, by ``stagebeam.standin.process`` alone. It ends when its
standard input is closed, which happens when its starter ends, however that ends.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections import Counter
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from cluster.process import keep_what_is_loaded
from stagebeam.standin.answers import Answer, answer
from stagebeam.standin.faults import StandInConfig
from stagebeam.standin.process import MODEL_NAME, READY

FINGERPRINT = "stand-in, no model"
_KEEP_ALIVE_S = 75
"""Longer than the client keeps idle connections, so that it never writes to one that was just closed."""


class StandInServer:
    """State and handlers. One event loop; handlers never block for long."""

    def __init__(self, config: StandInConfig) -> None:
        self._config = config
        self._requests = 0
        self._calls: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._in_flight = 0
        self._most_in_flight = 0

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)
        try:
            body = await request.body()
            response = self._turned_away() or await self._answered(body)
        finally:
            self._in_flight -= 1
        self._statuses[str(response.status_code)] += 1
        return response

    async def models(self) -> Response:
        """GET /v1/models."""
        entry = {"id": MODEL_NAME, "object": "model", "created": 0, "owned_by": "stagebeam"}
        return _json({"object": "list", "data": [entry]})

    async def stats(self) -> Response:
        """GET /stats: what was asked and answered so far."""
        return _json(
            {
                "calls": dict(self._calls),
                "faults": dict(self._faults),
                "statuses": dict(self._statuses),
                "most_in_flight": self._most_in_flight,
            }
        )

    def _turned_away(self) -> Response | None:
        number, self._requests = self._requests, self._requests + 1
        if number < self._config.rate_limits:
            return _error(429, "rate limit reached (stand-in)", {"Retry-After": str(self._config.retry_after_s)})
        if number < self._config.rate_limits + self._config.server_errors:
            return _error(503, "overloaded (stand-in)")
        return None

    async def _answered(self, body: bytes) -> Response:
        try:
            raw = json.loads(body)
            found = answer(self._config, raw["messages"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return _error(400, f"cannot read this request: {type(error).__name__}: {error}")
        self._calls[found.kind.value] += 1
        if found.fault is not None:
            self._faults[found.fault.value] += 1
        if found.is_slow:
            await asyncio.sleep(self._config.slow_s)
        return _json(_completion(found, self._requests))


def build_app(config: StandInConfig) -> FastAPI:
    """The OpenAI-compatible application."""
    server = StandInServer(config)
    app = FastAPI(title=MODEL_NAME, openapi_url=None)
    app.add_api_route("/v1/chat/completions", server.chat, methods=["POST"], response_model=None)
    app.add_api_route("/v1/models", server.models, methods=["GET"], response_model=None)
    app.add_api_route("/stats", server.stats, methods=["GET"], response_model=None)
    return app


def main() -> None:
    """Arguments: the number of a listening socket, and a StandInConfig as JSON. Says ``ready`` on standard output."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    config = StandInConfig.model_validate_json(sys.argv[2])
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(config),
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=2,
        )
    )
    threading.Thread(target=_end_with_starter, args=(server,), daemon=True).start()
    print(READY, flush=True)
    server.run(sockets=[listener])
    keep_what_is_loaded()


def _end_with_starter(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


def _completion(found: Answer, number: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-stand-in-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL_NAME,
        "system_fingerprint": FINGERPRINT,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": found.text or None, "refusal": found.refusal},
                "finish_reason": found.finish_reason,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": found.prompt_tokens,
            "completion_tokens": found.generated_tokens,
            "total_tokens": found.prompt_tokens + found.generated_tokens,
        },
    }


def _json(value: Any) -> Response:
    return Response(json.dumps(value, ensure_ascii=False), media_type="application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps({"error": {"message": message, "type": "stand_in", "code": None}})
    return Response(content, status_code=status, headers=headers, media_type="application/json")
