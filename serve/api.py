"""The HTTP face: OpenAI chat completions over an ``Answerer``. Knows no Ray and no model."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from cluster.logs import get_logger
from reasoning.errors import ImageError
from reasoning.records import Question
from reasoning.search.config import SearchConfig
from reasoning.search.result import SearchResult
from serve import chat_response
from serve.api_errors import ApiError, as_api_error, error_body
from serve.chat_request import ChatTask, parse_chat_request
from serve.chat_response import ReplyMarks
from serve.config import ServeConfig
from serve.events import StageEvent
from serve.image_parts import read_image_url

_log = get_logger(__name__)

CheckImage = Callable[[bytes], str]


class Answerer(Protocol):
    """Whoever answers: the orchestrator behind its handle, or a fake."""

    async def answer(self, question: Question, search: SearchConfig) -> SearchResult: ...

    def stream(self, question: Question, search: SearchConfig) -> AsyncIterator[StageEvent | SearchResult]: ...


def build_api(config: ServeConfig, answerer: Answerer, check_image: CheckImage) -> FastAPI:
    """The application. ``check_image`` gives an image's media type; raises ImageError for unusable bytes."""
    api = FastAPI(title="stagebeam", docs_url=None, redoc_url=None, openapi_url=None)
    started = int(time.time())
    endpoint = _ChatEndpoint(config, answerer, check_image)
    api.add_api_route("/v1/chat/completions", endpoint.complete, methods=["POST"], response_model=None)

    @api.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "model": config.served_model_name}

    @api.get("/v1/models")
    async def models() -> dict[str, Any]:
        return chat_response.model_list(config.served_model_name, started)

    @api.exception_handler(HTTPException)
    async def not_found(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        what = f"{request.method} {request.url.path}"
        return _error_response(ApiError(f"There is no {what} here; try POST /v1/chat/completions.", status))

    return api


class _ChatEndpoint:
    """POST /v1/chat/completions."""

    def __init__(self, config: ServeConfig, answerer: Answerer, check_image: CheckImage) -> None:
        self._config = config
        self._answerer = answerer
        self._check_image = check_image

    async def complete(self, request: Request) -> Response:
        # An error of any kind is answered in OpenAI's shape; what is not ours is logged as well.
        try:
            task = await self._task(request)
            marks = ReplyMarks(reply_id=f"chatcmpl-{uuid.uuid4().hex}", created=int(time.time()))
            if task.stream:
                return StreamingResponse(self._stream(task, marks), media_type="text/event-stream")
            result = await self._answerer.answer(task.question, task.search)
            return JSONResponse(chat_response.completion(task, result, marks))
        except Exception as error:  # noqa: BLE001
            return _error_response(_known(error))

    async def _task(self, request: Request) -> ChatTask:
        raw = await _read_json(request, _body_limit(self._config))
        task = await asyncio.to_thread(parse_chat_request, raw, self._config, read_image_url)
        image = task.question.image
        if image is None or image.data is None:
            return task
        # What the bytes are counts, not what the client calls them.
        image = replace(image, media_type=await asyncio.to_thread(self._media_type, image.data))
        return replace(task, question=replace(task.question, image=image))

    def _media_type(self, data: bytes) -> str:
        try:
            return self._check_image(data)
        except ImageError as error:
            raise ApiError(f"The image cannot be used: {error}", 400, "messages", "invalid_image") from error

    async def _stream(self, task: ChatTask, marks: ReplyMarks) -> AsyncIterator[str]:
        yield chat_response.opening_chunk(task, marks)
        try:
            async for item in self._answerer.stream(task.question, task.search):
                if isinstance(item, StageEvent):
                    yield chat_response.event_chunk(task, item, marks)
                else:
                    for chunk in chat_response.closing_chunks(task, item, marks):
                        yield chunk
        except Exception as error:  # noqa: BLE001
            for chunk in chat_response.error_chunks(_known(error)):
                yield chunk


def _known(error: Exception) -> ApiError:
    known = as_api_error(error)
    if known.code == "internal_error":
        _log.error("request_failed", exc_info=error)
    return known


def _error_response(error: ApiError) -> JSONResponse:
    headers = {"Retry-After": "1"} if error.status == 503 else None
    return JSONResponse(error_body(error), status_code=error.status, headers=headers)


def _body_limit(config: ServeConfig) -> int:
    """Base64 takes four bytes for three; the text comes on top, up to four bytes a character."""
    return config.limits.image_bytes * 4 // 3 + config.limits.question_chars * 4 + 100_000


async def _read_json(request: Request, limit: int) -> object:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise ApiError(f"The request body exceeds {limit:,} bytes.", 413, code="too_large")
    try:
        return json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ApiError(f"The request body is not JSON: {error}.", 400, code="invalid_json") from error
