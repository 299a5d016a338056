"""The HTTP face, with a fake in place of the orchestrator: replies, streams, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serve_fakes import CUT, GOOD, FakeAnswerer, chat_body, png

from actors.images import check_image
from reasoning.errors import EngineError
from serve.api import build_api
from serve.config import RequestLimits, ServeConfig

CONFIG = ServeConfig(model=Path("model"), limits=RequestLimits(image_bytes=10_000))


def client(answerer: FakeAnswerer) -> TestClient:
    return TestClient(build_api(CONFIG, answerer, check_image))


def chunks(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_message_is_the_conclusion_alone_and_usage_comes_from_the_ledger() -> None:
    reply = client(FakeAnswerer()).post("/v1/chat/completions", json=chat_body()).json()
    assert reply["choices"][0]["message"]["content"] == "2"
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (100, 40)
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == 60
    assert reply["stagebeam"]["ledger"]["judge_tokens"] == 30
    assert "stages" not in reply["stagebeam"]
    assert "trace" not in reply["stagebeam"]


def test_stages_and_trace_are_given_when_asked_for() -> None:
    body = chat_body(include_stages=True, include_trace=True)
    details = client(FakeAnswerer()).post("/v1/chat/completions", json=body).json()["stagebeam"]
    assert details["stages"]["CAPTION"] == "two circles"
    assert details["trace"]["question_id"] == "q"


def test_cut_off_answer_is_a_reply_with_its_fault() -> None:
    reply = client(FakeAnswerer(CUT)).post("/v1/chat/completions", json=chat_body()).json()
    assert reply["choices"][0]["message"]["content"] == ""
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["stagebeam"]["fault"] == "summary.unclosed"


def test_stream_sends_events_then_conclusion_then_details_then_usage() -> None:
    body = chat_body(stream=True, stream_options={"include_usage": True})
    first, event, content, last, usage = chunks(client(FakeAnswerer()).post("/v1/chat/completions", json=body).text)
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert event["stagebeam"] == {"event": "stage_started", "stage": "SUMMARY", "candidates": 4}
    assert content["choices"][0]["delta"] == {"content": "2"}
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["stagebeam"]["ledger"]["generated_tokens"] == 40
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 140)


def test_error_in_a_stream_is_sent_as_an_error() -> None:
    text = client(FakeAnswerer(EngineError("gone"))).post("/v1/chat/completions", json=chat_body(stream=True)).text
    assert chunks(text)[-1]["error"]["code"] == "engine_unavailable"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"x" * 300_000, 413, "too_large"),
        (json.dumps(chat_body(b"no image")).encode(), 400, "invalid_image"),
        (json.dumps(chat_body(png()[:40])).encode(), 400, "invalid_image"),
        (json.dumps(chat_body(b"x" * 11_000)).encode(), 413, "too_large"),
    ],
)
def test_bad_bodies_and_images_get_openai_shaped_errors(content: bytes, status: int, code: str) -> None:
    reply = client(FakeAnswerer()).post("/v1/chat/completions", content=content)
    assert reply.status_code == status
    assert reply.json()["error"]["code"] == code
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_lost_engine_is_503_and_the_unknown_is_a_bare_500() -> None:
    reply = client(FakeAnswerer(EngineError("all replicas died"))).post("/v1/chat/completions", json=chat_body())
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
    reply = client(FakeAnswerer(RuntimeError("inner detail"))).post("/v1/chat/completions", json=chat_body())
    assert reply.status_code == 500
    assert "inner detail" not in reply.text


def test_media_type_is_what_the_bytes_say() -> None:
    answerer = FakeAnswerer()
    body = chat_body()
    part = body["messages"][0]["content"][0]["image_url"]
    part["url"] = part["url"].replace("image/png", "image/jpeg")
    client(answerer).post("/v1/chat/completions", json=body)
    assert answerer.questions[0].image is not None
    assert answerer.questions[0].image.media_type == "image/png"


def test_health_models_and_unknown_paths() -> None:
    http = client(FakeAnswerer(GOOD))
    assert http.get("/healthz").json()["status"] == "ok"
    assert http.get("/v1/models").json()["data"][0]["id"] == "stagebeam"
    assert http.get("/v1/nothing").json()["error"]["type"] == "invalid_request_error"
    assert http.get("/v1/chat/completions").status_code == 405
