"""Every strategy with every selector through Serve: real HTTP, the real openai client, one started service.

The model is tiny and knows the four stages by heart. All pairs are asked at the same time, as the
requests of many users would be. Pairs with a reward model are tested where that is.
"""

from __future__ import annotations

import asyncio
import base64
import io
import socket
from collections.abc import Iterator
from itertools import product
from typing import Any

import openai
import pytest
from PIL import Image

from actors.engines.taught import QUESTION, build_taught_mllama
from reasoning.protocols import Sampling
from reasoning.search.config import PromptStyle, Retrace, ScorerKind, SearchConfig, SelectorKind, Strategy
from reasoning.search.presets import Preset
from serve.config import ServeConfig, Topology
from serve.launch import run_serving

PICKING = (Strategy.BEST_OF_N, Strategy.STAGE_BEAM, Strategy.SUBTREES, Strategy.SENTENCE_BEAM)
IN_STAGES = PICKING[1:]
REFUSED = set(product(IN_STAGES, (SelectorKind.VOTE, SelectorKind.WEIGHTED_VOTE)))
PAIRS = [pair for pair in product(Strategy, SelectorKind) if pair not in REFUSED]
SCORERS = [scorer for scorer in ScorerKind if scorer is not ScorerKind.REWARD]
REQUESTS: list[dict[str, Any]] = [
    *({"strategy": strategy, "selector": selector} for strategy, selector in PAIRS),
    *({"strategy": s, "selector": SelectorKind.SCORE, "scorer": scorer} for s, scorer in product(PICKING, SCORERS)),
    *({"strategy": Strategy.SWIRES, "scorer": scorer} for scorer in SCORERS),
    *({"preset": preset} for preset in Preset),
]


@pytest.fixture(scope="module")
def url(ray_local: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = tmp_path_factory.mktemp("model") / "taught"
    build_taught_mllama(model)
    search = SearchConfig(
        samples=2,
        prompt_style=PromptStyle.COMPACT,
        retrace=Retrace(captions=2, kept=1, rounds=1, finalists=1, cutoff=9.0),
        sampling=Sampling(temperature=1.0, top_p=1.0, max_new_tokens=64),
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with run_serving(ServeConfig(model=model, port=port, topology=Topology.SHARED, search=search)) as base_url:
        yield base_url


def messages() -> list[Any]:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), "gray").save(stream, "PNG")
    picture = {"url": f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"}
    return [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": picture}, {"type": "text", "text": QUESTION}],
        }
    ]


async def ask_all(url: str, requests: list[dict[str, Any]]) -> list[Any]:
    async with openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        calls = (
            client.chat.completions.create(
                model="stagebeam", messages=messages(), seed=1, extra_body={**request, "include_trace": True}
            )
            for request in requests
        )
        return list(await asyncio.gather(*calls, return_exceptions=True))


def test_every_pair_is_answered_with_its_trace_its_counts_and_its_cost(url: str) -> None:
    answered = 0
    for request, reply in zip(REQUESTS, asyncio.run(ask_all(url, REQUESTS)), strict=True):
        assert not isinstance(reply, BaseException), f"{request}: {reply!r}"
        details = reply.model_extra["stagebeam"]
        content = reply.choices[0].message.content
        assert bool(content) == (details["fault"] is None), request
        answered += bool(content)
        trace, ledger = details["trace"], details["ledger"]
        assert details["strategy"] == trace["strategy"] == request.get("strategy", Strategy.STAGE_BEAM)
        assert details["counts"]["comparisons"] == len(trace["comparisons"]), request
        assert details["counts"]["fallbacks"] == len(trace["notes"]), request
        assert reply.usage.completion_tokens == sum(c["tokens"] for c in trace["candidates"]), request
        spent = ledger["prompt_tokens"] - ledger["cached_tokens"] + ledger["generated_tokens"] + ledger["judge_tokens"]
        assert sum(step["tokens"] for step in trace["steps"]) == spent, request
        assert all(0 <= step["started_s"] <= step["ended_s"] <= ledger["seconds"] for step in trace["steps"]), request
    assert answered > len(REQUESTS) / 2


def test_pairs_that_make_no_sense_are_refused_in_words(url: str) -> None:
    pairs = sorted(REFUSED)
    requests = [{"strategy": strategy, "selector": selector} for strategy, selector in pairs]
    for (strategy, selector), refusal in zip(pairs, asyncio.run(ask_all(url, requests)), strict=True):
        assert isinstance(refusal, openai.APIStatusError)
        assert refusal.status_code == 422
        assert f"'{selector}' counts whole answers; with {strategy} take another selector" in refusal.message
