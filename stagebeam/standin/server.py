"""The stand-in as an HTTP server on a socket that its starter hands over.

Run as ``python -m stagebeam.standin``, by ``stagebeam.standin.process`` alone. It ends when its
standard input is closed, which happens when its starter ends, however that ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from cluster.process import keep_what_is_loaded
from stagebeam.standin.answers import Answer, answer
from stagebeam.standin.faults import StandInConfig, TransportFault, draw, transport_fault_of
from stagebeam.standin.ledger import Ledger, name_of_call
from stagebeam.standin.process import MODEL_NAME, READY
from stagebeam.standin.replies import CutResponse, DrippingResponse, HangingResponse, NotedResponse, quiet_about_cuts

FINGERPRINT = "stand-in, no model"
_KEEP_ALIVE_S = 75
"""Longer than the client keeps idle connections, so that it never writes to one that was just closed."""


_SERVER_ERRORS = (500, 502, 503)
_PAGE = "<!DOCTYPE html><html><body><h1>Gateway (stand-in)</h1><p>Something went wrong.</p></body></html>"


class StandInServer:
    """State and handlers. One event loop; handlers never block for long."""

    def __init__(self, config: StandInConfig, is_ending: Callable[[], bool]) -> None:
        self._config = config
        self._is_ending = is_ending
        self._ledger = Ledger(config.ledger) if config.ledger else None
        self._requests = 0
        self._tries: Counter[bytes] = Counter()
        self._burst_left = 0
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
            response = self._turned_away()
            if response is None:
                fault, key = self._transport_fault(body)
                response = self._unanswered(fault, key) or await self._answered(request, body, fault)
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

    def _transport_fault(self, body: bytes) -> tuple[TransportFault | None, str]:
        """The fault that a request meets on its way, and the key that its details are drawn by."""
        if not self._config.has_transport_faults:
            return None, ""
        digest = hashlib.blake2b(body, digest_size=16).digest()
        tries, self._tries[digest] = self._tries[digest], self._tries[digest] + 1
        fault = transport_fault_of(self._config, digest.hex(), tries)
        if self._burst_left > 0:
            self._burst_left -= 1
            fault = TransportFault.RATE_LIMITED
        elif fault is TransportFault.RATE_LIMITED:
            self._burst_left = self._config.burst_length - 1
        if fault is not None:
            self._faults[fault.value] += 1
        return fault, digest.hex()

    def _unanswered(self, fault: TransportFault | None, key: str) -> Response | None:
        """The reply to a request that gets no answer; None for one that does."""
        match fault:
            case TransportFault.RATE_LIMITED:
                return _error(429, "rate limit reached (stand-in)", {"Retry-After": str(self._config.retry_after_s)})
            case TransportFault.SERVER_ERROR:
                number = int(draw(self._config.seed, "status", key) * len(_SERVER_ERRORS))
                return _error(_SERVER_ERRORS[number], "out of order (stand-in)")
            case TransportFault.HANG:
                return HangingResponse(self._is_ending)
            case TransportFault.INVALID_JSON:
                return Response('{"id": "chatcmpl-stand-in", "choices": [{"index": 0, ', media_type="application/json")
            case TransportFault.GARBAGE_TYPE:
                return Response(_PAGE, media_type="text/html")
            case _:
                return None

    async def _answered(self, request: Request, body: bytes, fault: TransportFault | None) -> Response:
        try:
            raw = json.loads(body)
            found = answer(self._config, raw["messages"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return _error(400, f"cannot read this request: {type(error).__name__}: {error}")
        if fault is not TransportFault.EMPTY_CHOICES:
            self._calls[found.kind.value] += 1
            if found.fault is not None:
                self._faults[found.fault.value] += 1
        if found.is_slow:
            await asyncio.sleep(self._config.slow_s)
        completion = _completion(found, self._requests)
        if fault is TransportFault.EMPTY_CHOICES:
            return _json({**completion, "choices": []})
        return self._sent(json.dumps(completion).encode(), fault, name_of_call(request.headers, body))

    def _sent(self, reply: bytes, fault: TransportFault | None, call: str) -> Response:
        def note() -> None:
            if self._ledger is not None:
                self._ledger.add(call)

        if fault is TransportFault.CUT_BODY:
            return CutResponse(reply, note)
        if fault is TransportFault.SLOW_DRIP:
            return DrippingResponse(reply, note, self._config.drip_s)
        return NotedResponse(reply, note)


def build_app(config: StandInConfig, is_ending: Callable[[], bool] = lambda: False) -> FastAPI:
    """The OpenAI-compatible application; ``is_ending`` says whether those that never answer may go."""
    server = StandInServer(config, is_ending)
    app = FastAPI(title=MODEL_NAME, openapi_url=None)
    app.add_api_route("/v1/chat/completions", server.chat, methods=["POST"], response_model=None)
    app.add_api_route("/v1/models", server.models, methods=["GET"], response_model=None)
    app.add_api_route("/stats", server.stats, methods=["GET"], response_model=None)
    return app


def main() -> None:
    """Arguments: the number of a listening socket, and a StandInConfig as JSON. Says ``ready`` on standard output."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    config = StandInConfig.model_validate_json(sys.argv[2])
    ending = threading.Event()
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(config, ending.is_set),
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=2,
        )
    )
    quiet_about_cuts()
    threading.Thread(target=_end_with_starter, args=(server, ending), daemon=True).start()
    print(READY, flush=True)
    server.run(sockets=[listener])
    keep_what_is_loaded()


def _end_with_starter(server: uvicorn.Server, ending: threading.Event) -> None:
    sys.stdin.buffer.read()
    ending.set()
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
