"""A real OpenAI-compatible server on loopback, before any engine of ours, with abilities that can be switched off."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reasoning.ledger import Usage
from reasoning.protocols import ChoiceRequest, Continuation, ContinuationRequest, Engine, Sampling, StopReason
from reasoning.records import ImageRef, Turn
from reasoning.stages import STAGES

MODEL = "tiny"


@dataclass(kw_only=True)
class Peer:
    """What the server can do, what it is to do next, and what it saw."""

    engine: Engine
    owner: str = "vllm"
    """What it calls itself in its list of models; only ``vllm`` goes on with an assistant's message."""
    several: bool = True
    refuses_n: bool = False
    logprobs: bool = True
    refuses: tuple[str, ...] = ()
    """Fields that are answered with HTTP 400."""
    keeps_stop: bool = True
    names_stop: bool = True
    counts: bool = True
    says: str | None = None
    """A reply for everything, whatever the engine would say."""
    failures: list[tuple[int, str]] = field(default_factory=list)
    """Status and message of the next replies."""
    key: str | None = None
    holds: bool = False
    """Requests are kept waiting until their client goes."""
    arrived: threading.Event = field(default_factory=threading.Event)
    dropped: threading.Event = field(default_factory=threading.Event)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    url: str = ""

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": self.owner}]})

    async def chat(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.bodies.append(body)
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return refusal(401, f"wrong key {request.headers.get('authorization')}")
        if self.failures:
            status, message = self.failures.pop(0)
            return refusal(status, message)
        for name in self.refuses:
            if name in body:
                return refusal(400, f"Unrecognized request argument supplied: {name}")
        if self.refuses_n and body.get("n", 1) > 1:
            return refusal(400, "'n' must be 1 here")
        if self.holds:
            self.arrived.set()
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self.dropped.set()
            return Response(status_code=499)
        return JSONResponse(await self._completion(body))

    async def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = read(body, self.owner == "vllm")
        count = body.get("n", 1) if self.several else 1
        seeds = tuple(body.get("seed", 0) + i for i in range(count))
        sampling = Sampling(
            temperature=body["temperature"], top_p=body.get("top_p", 1.0), max_new_tokens=body["max_tokens"]
        )
        top = body.get("top_logprobs", 0) if self.logprobs else 0
        if self.says is not None:
            said = tuple(
                Continuation(text=self.says, stop=StopReason.EOS, tokens=3, logprob=-1.5, seed=seed) for seed in seeds
            )
            usage = Usage(prompt_tokens=10, generated_tokens=3 * count)
        elif top:
            said, usage = (), Usage()
        else:
            stops = tuple(body.get("stop", ()))
            stage = next((stage for stage in STAGES if stage.close_tag in stops), None)
            request = ContinuationRequest(**asked, stops=stops, seeds=seeds, sampling=sampling, stage=stage)
            [reply] = await self.engine.generate([request])
            said, usage = reply.continuations, reply.usage
        if top:
            choices, usage = await self._alternatives(asked, usage)
        else:
            choices = [self._choice(place, one, body) for place, one in enumerate(said)]
        self.usage += usage
        completion = {"id": "1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": choices}
        return completion | ({"usage": usage_json(usage)} if self.counts else {})

    def _choice(self, place: int, said: Continuation, body: dict[str, Any]) -> dict[str, Any]:
        text, finish, stop_reason = said.text, "length" if said.stop is StopReason.LENGTH else "stop", None
        if said.stop is StopReason.TAG:
            stop_reason = next(stop for stop in body["stop"] if text.endswith(stop))
            if not (self.keeps_stop and body.get("include_stop_str_in_output")):
                text = text.removesuffix(stop_reason)
        choice: dict[str, Any] = {
            "index": place,
            "finish_reason": finish,
            "message": {"role": "assistant", "content": text},
        }
        if self.names_stop:
            choice["stop_reason"] = stop_reason
        if self.logprobs and body.get("logprobs"):
            rest = [token("", 0.0)] * (said.tokens - 1)
            choice["logprobs"] = {"content": [token(said.text, said.logprob), *rest]}
        return choice

    async def _alternatives(self, asked: dict[str, Any], usage: Usage) -> tuple[list[dict[str, Any]], Usage]:
        options = ("1", "2") if "I choose" in asked["prefix"] + asked["prompt"] else ("yes", "no")
        [reply] = await self.engine.choose([ChoiceRequest(**asked, options=options)])
        top = [token(option, logprob) for option, logprob in zip(options, reply.logprobs, strict=True)]
        best = max(top, key=lambda one: one["logprob"])
        message = {"role": "assistant", "content": best["token"]}
        content = [{**best, "top_logprobs": top}]
        choice = {"index": 0, "finish_reason": "length", "message": message, "logprobs": {"content": content}}
        return [choice], usage + reply.usage


def read(body: dict[str, Any], continues: bool) -> dict[str, Any]:
    """The fields that requests to write and to choose have in common."""
    messages = list(body["messages"])
    prefix = ""
    if messages[-1]["role"] == "assistant":
        last = messages.pop()["content"]
        prefix = last if continues and body.get("continue_final_message") else ""
    image = None
    first = messages[0]
    if isinstance(first["content"], list):
        url = first["content"][0]["image_url"]["url"]
        image = ImageRef(data=base64.b64decode(url.partition(",")[2]))
        messages[0] = {**first, "content": first["content"][1]["text"]}
    texts = [message["content"] for message in messages]
    turns = zip(texts[:-1:2], texts[1:-1:2], strict=True)
    history = tuple(Turn(question=question, answer=answer) for question, answer in turns)
    return {"prompt": texts[-1], "image": image, "prefix": prefix, "history": history}


def token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": None, "top_logprobs": []}


def usage_json(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.generated_tokens,
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def refusal(status: int, message: str) -> Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    return JSONResponse(body, status_code=status, headers={"retry-after-ms": "1"})


@contextmanager
def serving(peer: Peer) -> Iterator[Peer]:
    """``peer`` behind a port of its own, in a thread with an event loop of its own."""
    routes = [
        Route("/v1/models", peer.models),
        Route("/v1/chat/completions", peer.chat, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    # A broken handler of ours must not look like a server that fails now and then.
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    peer.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    try:
        yield peer
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
