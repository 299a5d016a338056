"""What a request's fields come to mean, and which are refused with which error."""

from __future__ import annotations

import base64
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from reasoning.records import Turn
from reasoning.search.config import Pairing, PromptStyle, ScorerKind, SearchConfig, SelectorKind, Strategy
from serve.api_errors import ApiError
from serve.chat_request import ChatTask, parse_chat_request
from serve.config import RequestLimits, ServeConfig
from serve.image_parts import read_image_url

IMAGE = b"an image, as far as this module looks"
DATA_URL = f"data:image/png;base64,{base64.b64encode(IMAGE).decode()}"
CONFIG = ServeConfig(model=Path("model"), search=SearchConfig(samples=4, width=2), limits=RequestLimits(samples=8))


def body(**fields: Any) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": DATA_URL}}, {"type": "text", "text": "How many?"}]
    return {"model": "stagebeam", "messages": [{"role": "user", "content": content}], **fields}


def with_image(url: str) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "How many?"}]
    return body(messages=[{"role": "user", "content": content}])


def parse(raw: object, config: ServeConfig = CONFIG) -> ChatTask:
    return parse_chat_request(raw, config, read_image_url)


def refusal(raw: object, config: ServeConfig = CONFIG) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(raw, config)
    return caught.value


def test_plain_request_takes_the_services_search() -> None:
    task = parse(body())
    assert task.question.question == "How many?"
    assert task.question.image is not None
    assert task.question.image.data == IMAGE
    assert task.search == CONFIG.search
    assert (task.stream, task.notes) == (False, ())


def test_same_question_gets_the_same_id_and_another_image_another() -> None:
    other = f"data:image/png;base64,{base64.b64encode(b'other').decode()}"
    assert parse(body()).question.id == parse(body()).question.id
    assert parse(body()).question.id != parse(with_image(other)).question.id


def test_extra_fields_set_the_search() -> None:
    task = parse(body(strategy="best_of_n", samples=3, selector="vote", seed=7, temperature=0.2, top_p=0.5))
    assert task.search.strategy is Strategy.BEST_OF_N
    assert task.search.selector is SelectorKind.VOTE
    assert (task.search.samples, task.search.width, task.search.seed) == (3, 2, 7)
    assert (task.search.sampling.temperature, task.search.sampling.top_p) == (0.2, 0.5)


def test_sizes_limits_and_scorers_are_the_requests_too() -> None:
    fields: dict[str, Any] = {
        "samples_by_stage": [1, 4, 4, 2],
        "width_by_stage": [1, 2, 1, 1],
        "subtrees": 2,
        "selector": "score",
        "scorer": "round_robin",
        "deadline_s": 2.5,
        "token_budget": 900,
        "stop_on_agreement": True,
    }
    search = parse(body(**fields)).search
    assert (search.samples_by_stage, search.width_by_stage) == ((1, 4, 4, 2), (1, 2, 1, 1))
    assert (search.subtrees, search.selector, search.scorer) == (2, SelectorKind.SCORE, ScorerKind.ROUND_ROBIN)
    assert (search.deadline_s, search.token_budget, search.stop_on_agreement) == (2.5, 900, True)
    assert refusal(body(samples_by_stage=[1, 9, 1, 1])).param == "samples_by_stage"
    assert refusal(body(width_by_stage=[1, 2])).status == 422


def test_fewer_samples_than_the_services_width_narrow_it() -> None:
    assert parse(body(samples=1)).search.width == 1


@pytest.mark.parametrize(("asked", "taken"), [(32768, 2048), (0, 1), (-1, 1), (100, 100)])
def test_max_tokens_is_clamped_and_said(asked: int, taken: int) -> None:
    task = parse(body(max_tokens=asked))
    assert task.search.sampling.max_new_tokens == taken
    assert bool(task.notes) == (asked != taken)


def test_n_is_clamped_and_said() -> None:
    assert "n=5" in parse(body(n=5)).notes[0]


def test_fields_of_habit_change_nothing_and_are_said() -> None:
    task = parse(body(presence_penalty=0.5, user="me", stop=["x"]))
    assert task.notes == ("ignored: presence_penalty, stop, user",)


def test_history_and_system_text_are_kept() -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "First?"}]},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "Second?"},
    ]
    question = parse(body(messages=messages)).question
    assert question.history == (Turn(question="Be short.\n\nFirst?", answer="One."),)
    assert (question.question, question.turn, question.image) == ("Second?", 1, None)


@pytest.mark.parametrize(
    ("raw", "status", "param"),
    [
        ([], 400, None),
        ({"messages": []}, 400, "model"),
        (body(temperature="warm"), 400, "temperature"),
        (body(sampels=3), 400, "sampels"),
        (body(strategy="guess"), 400, "strategy"),
        (body(messages=[{"role": "user", "content": [{"type": "audio"}]}]), 400, "messages.0.content"),
        (body(model="gpt"), 404, "model"),
        (body(messages=[]), 422, "messages"),
        (body(messages=[{"role": "user", "content": "  "}]), 422, "messages"),
        (body(messages=[{"role": "assistant", "content": "hi"}]), 422, "messages"),
        (body(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]), 422, "messages"),
        (body(messages=body()["messages"] + [{"role": "assistant", "content": "x"}] + body()["messages"]), 422, None),
        (body(samples=9), 422, "samples"),
        (body(samples=2, width=3), 422, None),
        (body(selector="vote"), 422, None),
        (with_image("https://example.com/a.png"), 422, "messages"),
        (with_image("file:///etc/passwd"), 400, "messages"),
        (with_image("data:image/png;base64,$$$"), 400, "messages"),
        (with_image("data:text/plain;base64,aGk="), 400, "messages"),
        (body(messages=[{"role": "user", "content": "x" * 20_000}]), 413, "messages"),
    ],
)
def test_refusals_name_status_and_field(raw: object, status: int, param: str | None) -> None:
    error = refusal(raw)
    assert error.status == status
    if param:
        assert error.param is not None
        assert error.param.startswith(param)


def test_large_image_is_413() -> None:
    small = CONFIG.model_copy(update={"limits": RequestLimits(image_bytes=10)})
    assert refusal(body(), small).status == 413


class _Images(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", "/a.png")
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        self.wfile.write(IMAGE)

    def log_message(self, *args: object) -> None:
        """Quiet."""


def test_image_of_an_allowed_host_is_fetched_without_following_redirects() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Images)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        allowed = CONFIG.model_copy(update={"limits": RequestLimits(image_hosts=("127.0.0.1",))})
        root = f"http://127.0.0.1:{server.server_port}"
        image = parse(with_image(f"{root}/a.png"), allowed).question.image
        assert image is not None
        assert image.data == IMAGE
        assert refusal(with_image(f"{root}/moved"), allowed).code == "image_not_fetched"
        assert refusal(with_image(f"{root}/a.png")).code == "image_url_not_allowed"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_preset_settles_the_method_and_leaves_the_services_limits_and_wording() -> None:
    config = CONFIG.model_copy(update={"search": SearchConfig(samples=4, width=2, prompt_style=PromptStyle.COMPACT)})
    search = parse(body(preset="paper"), config).search
    assert (search.selector, search.pairing, search.width) == (SelectorKind.JUDGE_TEXT, Pairing.RANDOM_PAIRS, 1)
    assert (search.prompt_style, search.check_reasoning) == (PromptStyle.COMPACT, True)
    assert parse(body(preset="default"), config).search == replace(config.search, width=1)


def test_fields_beside_a_preset_lie_over_it() -> None:
    search = parse(body(preset="paper", samples=2, temperature=1.0, judge_both_orders=False, max_tokens=7)).search
    assert (search.samples, search.judge_both_orders, search.check_reasoning) == (2, False, True)
    assert (search.sampling.temperature, search.sampling.top_p, search.sampling.max_new_tokens) == (1.0, 0.9, 7)


def test_an_unknown_preset_and_one_beyond_the_limit_are_refused() -> None:
    assert (refusal(body(preset="papre")).status, refusal(body(preset="papre")).param) == (400, "preset")
    small = ServeConfig(model=Path("model"), search=SearchConfig(samples=2), limits=RequestLimits(samples=2))
    error = refusal(body(preset="paper"), small)
    assert (error.status, error.param) == (422, "preset")
    assert parse(body(preset="paper", samples=2), small).search.samples == 2
