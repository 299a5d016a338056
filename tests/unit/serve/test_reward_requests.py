"""A service with a reward model: who may ask for it, where it runs, and when its scores are warned of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_serve_handles import FakeHandle

from actors.rewards.config import RewardConfig, RewardKind
from reasoning.errors import ConfigError
from reasoning.protocols import ContinuationRequest, RewardReply, RewardRequest
from reasoning.records import Question
from reasoning.search.config import Retrace, ScorerKind, ScoreSpread, SearchConfig, SelectorKind, Strategy
from reasoning.search.result import SearchResult
from reasoning.stages import Stage, render_stage
from reasoning.testing import ScriptedEngine, ScriptedRewarder
from serve.api_errors import ApiError
from serve.app import cpus_needed, engine_pools, model_pools
from serve.chat_request import ChatTask, parse_chat_request
from serve.config import PoolConfig, ServeConfig, Topology
from serve.handles import HandleRewarder
from serve.image_parts import read_image_url
from serve.orchestrator import DriftWatch, Orchestrator

MODEL = Path("model")
REWARD = RewardConfig(kind=RewardKind.HTTP, url="http://127.0.0.1:9/score")
RETRACE = SearchConfig(
    strategy=Strategy.SWIRES,
    scorer=ScorerKind.REWARD,
    retrace=Retrace(
        captions=4, rounds=1, expected=ScoreSpread(scorer=ScorerKind.REWARD, count=500, mean=100.0, std=1.0)
    ),
)


def parse(config: ServeConfig, **fields: Any) -> ChatTask:
    raw = {"model": "stagebeam", "messages": [{"role": "user", "content": "How many?"}], **fields}
    return parse_chat_request(raw, config, read_image_url)


@pytest.mark.parametrize(
    "fields", [{"strategy": "swires"}, {"strategy": "best_of_n", "selector": "weighted_vote"}, {"selector": "score"}]
)
def test_a_reward_model_may_be_asked_for_where_there_is_one(fields: dict[str, str]) -> None:
    with pytest.raises(ApiError, match="no reward model") as caught:
        parse(ServeConfig(model=MODEL), scorer="reward", **fields)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "scorer", "no_reward_model")
    task = parse(ServeConfig(model=MODEL, reward=REWARD), scorer="reward", **fields)
    assert task.search.scorer is ScorerKind.REWARD


def test_a_scorer_that_is_not_asked_needs_no_reward_model() -> None:
    assert parse(ServeConfig(model=MODEL), scorer="reward", strategy="greedy").search.strategy is Strategy.GREEDY


def test_a_cutoff_of_another_scorer_is_told() -> None:
    config = ServeConfig(model=MODEL, reward=REWARD, search=RETRACE)
    assert parse(config).notes == ()
    assert parse(config, scorer="rating").notes == ("the cutoff was fitted on scores by reward, not by rating",)


def test_a_search_that_needs_what_is_not_configured_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="none is configured"):
        ServeConfig(model=MODEL, search=RETRACE)
    with pytest.raises(ConfigError, match=r"reward_pool\.model"):
        ServeConfig(model=MODEL, reward=REWARD, reward_pool=PoolConfig(model=MODEL))


def test_the_reward_model_is_a_deployment_of_its_own() -> None:
    config = ServeConfig(model=MODEL, reward=REWARD, reward_pool=PoolConfig(replicas=2, num_cpus=0.5))
    assert [name for name, _ in model_pools(config)][-1] == "reward"
    assert cpus_needed(config) == pytest.approx(cpus_needed(ServeConfig(model=MODEL)) + 1.0)


def test_a_judge_of_its_own_takes_the_judges_pools() -> None:
    judge, own = Path("judge"), PoolConfig(model=Path("own"))
    staged = ServeConfig(model=MODEL, judge_model=judge, judges={Stage.CAPTION: own})
    models = {name: pool.model for name, pool in engine_pools(staged)}
    assert models["generate-caption"] is None
    assert (models["judge-summary"], models["judge-caption"]) == (judge, own.model)
    shared = ServeConfig(model=MODEL, judge_model=judge, topology=Topology.SHARED)
    assert [(name, pool.model) for name, pool in engine_pools(shared)] == [("engines", None), ("judges", judge)]


def test_the_pool_is_asked_as_one_call() -> None:
    async def work(requests: Sequence[RewardRequest]) -> list[RewardReply]:
        return await ScriptedRewarder(lambda text: float(len(text))).reward(requests)

    handle = FakeHandle(work)
    question = Question(id="q", question="How many?")
    requests = [RewardRequest(question=question, stage=None, prior={}, text=text) for text in ("a", "bb")]
    replies = asyncio.run(HandleRewarder(handle).reward(requests))
    assert [reply.score for reply in replies] == [1.0, 2.0]
    assert handle.calls == [requests]


def numbered(request: ContinuationRequest, index: int) -> str:
    assert request.stage is not None
    return render_stage(request.stage, f"{request.seeds[index] % 1000}")


def answered(orchestrator: Orchestrator, number: int, search: SearchConfig) -> SearchResult:
    return asyncio.run(orchestrator.answer(Question(id=f"q{number}", question="How many?"), search))


def test_a_service_warns_once_when_scores_drift(capfd: pytest.CaptureFixture[str]) -> None:
    engine = ScriptedEngine(numbered)
    orchestrator = Orchestrator(engine, engine, ScriptedRewarder(lambda _: 0.0))
    for number in range(12):
        assert answered(orchestrator, number, RETRACE).fault is None
    said = capfd.readouterr().err
    assert said.count("scores_drifted") == 1
    assert "the cutoff was fitted on 100 ± 1 (500)" in said


def test_a_watch_keeps_each_calibration_apart_and_searches_without_one_out() -> None:
    engine = ScriptedEngine(numbered)
    orchestrator = Orchestrator(engine, engine, ScriptedRewarder(lambda _: 0.0))
    watch = DriftWatch()
    plain = replace(RETRACE, retrace=replace(RETRACE.retrace, expected=None))
    fitting = replace(
        RETRACE,
        retrace=replace(RETRACE.retrace, expected=ScoreSpread(scorer=ScorerKind.REWARD, count=9, mean=0.0, std=1.0)),
    )
    beam = replace(RETRACE, strategy=Strategy.BEST_OF_N, selector=SelectorKind.SCORE)
    said = []
    for number in range(12):
        trace = answered(orchestrator, number, RETRACE).trace
        said += [watch.look(search, trace) for search in (plain, fitting, beam)]
    assert said == [None] * 36
