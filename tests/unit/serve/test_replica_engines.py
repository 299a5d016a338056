"""Which engine a replica runs: the pool's model, an endpoint, or a clear word on what is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from endpoint_server import MODEL, Peer, serving

from actors.engines.config import OpenAIEngineConfig
from reasoning.errors import ConfigError
from reasoning.protocols import ContinuationRequest, Sampling
from reasoning.search.config import SearchConfig, SelectorKind
from reasoning.testing import ScriptedEngine, reciting
from serve.config import EngineKind, PoolConfig, ServeConfig
from serve.replicas import EngineReplica


def test_a_replica_asks_its_pools_model_at_the_endpoint() -> None:
    asked = ContinuationRequest(
        prompt="How many?", image=None, prefix="", stops=(), seeds=(1,), sampling=Sampling(), stage=None
    )
    with serving(Peer(engine=ScriptedEngine(reciting("three")))) as peer:
        config = ServeConfig(
            engine=EngineKind.OPENAI, openai=OpenAIEngineConfig(base_url=peer.url, model=MODEL, max_retries=0)
        )
        for pool in (PoolConfig(), PoolConfig(model=Path("org/another"))):
            [reply] = asyncio.run(EngineReplica(config, pool).generate([asked]))
            assert reply.continuations[0].text == "three"
    assert [body["model"] for body in peer.bodies] == [MODEL, "org/another"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "there is no model"),
        ({"engine": "openai"}, "there is no endpoint"),
        ({"model": "m", "openai": {"base_url": "http://h/v1", "model": "n"}}, "set engine to openai"),
        (
            {
                "engine": "openai",
                "openai": {"base_url": "http://h/v1", "model": "n", "logprobs": False},
                "search": SearchConfig(selector=SelectorKind.LIKELIHOOD),
            },
            "ranks by likelihood",
        ),
    ],
)
def test_an_engine_without_what_it_needs_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ServeConfig(**fields)


def test_the_scripted_engine_needs_no_model() -> None:
    assert ServeConfig(engine=EngineKind.SCRIPTED).model is None
