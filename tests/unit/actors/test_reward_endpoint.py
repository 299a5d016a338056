"""A reward model behind HTTP: a real server on loopback that behaves, and one that does not."""

from __future__ import annotations

import asyncio
import base64
import math
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from actors.rewards.build import build_rewarder
from actors.rewards.config import HttpForm, RewardConfig, RewardKind
from cluster.secrets import HIDDEN
from reasoning.errors import ConfigError, EngineError
from reasoning.protocols import RewardReply, RewardRequest
from reasoning.records import ImageRef, Question
from reasoning.stages import Stage

QUESTION = Question(id="q", question="How many?", choices=("2", "3"), image=ImageRef(data=b"picture"))
AT_ONCE = {"retry-after-ms": "1"}


class ScoreServer:
    """Answers each POST by what ``answer`` makes of its body and keeps what it was sent."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any]], Response] = scores_of_lengths
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/score"
        app = Starlette(routes=[Route("/score", self._score, methods=["POST"])])
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))

    async def _score(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("authorization"))
        return self.answer(self.bodies[-1])


def scores_of_lengths(body: dict[str, Any]) -> Response:
    texts = [one["text"] for one in body["inputs"]]
    return JSONResponse({"scores": [float(len(text)) for text in texts], "tokens": [len(t.split()) for t in texts]})


@pytest.fixture
def server() -> Iterator[ScoreServer]:
    made = ScoreServer()
    thread = threading.Thread(target=made.server.run, args=([made.listener],))
    thread.start()
    yield made
    made.server.should_exit = True
    thread.join()


def config_for(server: ScoreServer, **changes: Any) -> RewardConfig:
    return RewardConfig(kind=RewardKind.HTTP, url=server.url, **changes)


def score(config: RewardConfig, *texts: str) -> list[RewardReply]:
    async def ask() -> list[RewardReply]:
        rewarder = build_rewarder(config)
        try:
            prior = {Stage.CAPTION: "Two."}
            return await rewarder.reward(
                [RewardRequest(question=QUESTION, stage=Stage.REASONING, prior=prior, text=text) for text in texts]
            )
        finally:
            await rewarder.aclose()

    return asyncio.run(ask())


def test_texts_go_out_in_batches_and_scores_come_back_in_order(server: ScoreServer) -> None:
    replies = score(config_for(server, batch_size=2, model="judge-7b"), "a", "bb b", "ccc")
    assert [reply.score for reply in replies] == [1.0, 4.0, 3.0]
    assert [reply.usage.prompt_tokens for reply in replies] == [1, 2, 1]
    assert sorted(len(body["inputs"]) for body in server.bodies) == [1, 2]
    assert server.bodies[0]["model"] == "judge-7b"
    [first] = [body["inputs"][0] for body in server.bodies if body["inputs"][0]["text"] == "a"]
    assert first == {
        "question": "How many?",
        "choices": ["2", "3"],
        "hint": QUESTION.hint,
        "stage": "REASONING",
        "prior": {"CAPTION": "Two."},
        "text": "a",
    }


def test_the_picture_is_sent_where_it_is_wanted(server: ScoreServer) -> None:
    score(config_for(server, with_image=True), "a")
    [body] = server.bodies
    head, _, data = body["inputs"][0]["image"].partition(",")
    assert (head, base64.b64decode(data)) == ("data:image/png;base64", b"picture")


def test_what_may_pass_is_asked_again(server: ScoreServer) -> None:
    faults = iter([Response(status_code=429, headers=AT_ONCE), Response(status_code=503, headers=AT_ONCE)])
    server.answer = lambda body: next(faults, None) or scores_of_lengths(body)
    assert [reply.score for reply in score(config_for(server), "abc")] == [3.0]
    assert len(server.bodies) == 3


def test_a_server_that_stays_away_is_an_engine_error(server: ScoreServer) -> None:
    server.answer = lambda _: Response("overloaded", status_code=503, headers=AT_ONCE)
    with pytest.raises(EngineError, match=r"gave no scores: .*overloaded"):
        score(config_for(server, max_retries=1), "abc")
    assert len(server.bodies) == 2
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(EngineError, match=r"gave no scores: APIConnectionError"):
        score(RewardConfig(kind=RewardKind.HTTP, url=f"http://127.0.0.1:{port}", max_retries=0), "abc")


def test_a_refusal_is_not_repeated(server: ScoreServer) -> None:
    server.answer = lambda _: JSONResponse({"error": "no such model"}, status_code=404)
    with pytest.raises(EngineError, match="no such model"):
        score(config_for(server), "abc")
    assert len(server.bodies) == 1


@pytest.mark.parametrize("value", ["null", "NaN"])
def test_what_is_no_number_is_no_score(server: ScoreServer, value: str) -> None:
    server.answer = lambda _: Response(f'{{"scores": [{value}, 2]}}', media_type="application/json")
    first, second = score(config_for(server), "a", "b")
    assert (math.isnan(first.score), second.score) == (True, 2.0)


@pytest.mark.parametrize(
    "body",
    [
        '{"scores": [1]}',
        '{"scores": ["high", 2]}',
        '{"scores": [true, 2]}',
        '{"scores": [1, 2], "tokens": [1]}',
        "[1, 2]",
        "{",
        "",
        "null",
    ],
)
def test_garbage_is_an_engine_error(server: ScoreServer, body: str) -> None:
    server.answer = lambda _: Response(body, media_type="application/json")
    with pytest.raises(EngineError, match=server.url):
        score(config_for(server, max_retries=0), "a", "b")


def test_class_probabilities_become_log_odds(server: ScoreServer) -> None:
    def classify(body: dict[str, Any]) -> Response:
        assert body["input"][0].startswith("How many?\nA. 2\nB. 3\n\n<CAPTION> Two. </CAPTION>\n\n<REASONING> a")
        data = [{"index": 1, "probs": [0.5, 0.5]}, {"index": 0, "probs": [0.2, 0.8]}]
        return JSONResponse({"data": data, "usage": {"prompt_tokens": 7}})

    server.answer = classify
    first, second = score(config_for(server, form=HttpForm.CLASSIFY), "a", "b")
    assert (first.score, second.score) == (pytest.approx(math.log(4)), pytest.approx(0))
    assert [reply.usage.prompt_tokens for reply in (first, second)] == [4, 3]
    wrong, _ = score(config_for(server, form=HttpForm.CLASSIFY, label=0), "a", "b")
    assert wrong.score == pytest.approx(-math.log(4))


def test_the_key_is_sent_and_never_shown(server: ScoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_KEY", "sk-secret-1")
    config = config_for(server, api_key_env="SCORER_KEY", max_retries=0)
    score(config, "a")
    assert server.keys == ["Bearer sk-secret-1"]
    assert "sk-secret-1" not in config.model_dump_json()
    server.answer = lambda _: JSONResponse({"error": "bad key sk-secret-1"}, status_code=401)
    with pytest.raises(EngineError) as caught:
        score(config, "a")
    assert "sk-secret-1" not in str(caught.value)
    assert HIDDEN in str(caught.value)
    monkeypatch.delenv("SCORER_KEY")
    with pytest.raises(ConfigError, match="SCORER_KEY"):
        build_rewarder(config)
