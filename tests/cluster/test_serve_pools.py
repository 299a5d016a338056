"""A deployment for every stage, with the scripted engine: routing, lost replicas, lost clients."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from reasoning.search.config import SearchConfig, SelectorKind
from reasoning.stages import STAGES
from serve.client import ask
from serve.config import EngineKind, ScriptConfig, ServeConfig
from serve.launch import check_port, run_serving


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def replica_pids(deployment: str) -> list[int]:
    """Processes of a deployment's replicas among those that this process started."""
    title = f"ray::ServeReplica:stagebeam:{deployment}"
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [child.pid] if any(title in part for part in child.cmdline()) else []
    return found


@pytest.fixture(scope="module")
def config() -> ServeConfig:
    return ServeConfig(
        model=Path("none"),
        engine=EngineKind.SCRIPTED,
        script=ScriptConfig(delay_s=0.3),
        search=SearchConfig(selector=SelectorKind.JUDGE_LOGPROB),
        port=free_port(),
    )


@pytest.fixture(scope="module")
def url(ray_local: object, config: ServeConfig) -> Iterator[str]:
    with run_serving(config) as base_url:
        yield base_url
    check_port(config.host, config.port)
    assert not [name for name in ("ingress", "orchestrator", "generate-summary") if replica_pids(name)]


def test_every_stage_is_answered_and_reported(url: str) -> None:
    events: list[dict[str, Any]] = []
    answer = ask(url, None, "Is there a circle?", include_stages=True, on_event=events.append)
    assert answer.conclusion == "yes, it is"
    assert answer.stages is not None
    assert answer.stages.summary == "I will look and count. Then I will count again."
    assert [event["stage"] for event in events if event["event"] == "stage_chosen"] == list(STAGES)


def test_whole_answers_are_routed_too(url: str) -> None:
    assert ask(url, None, "Is there a circle?", strategy="best_of_n", samples=2).conclusion == "yes, it is"
    assert ask(url, None, "Is there a circle?", strategy="greedy").conclusion == "no"


def test_replica_killed_under_load_is_survived(url: str) -> None:
    killed: list[int] = []

    def kill_once(event: dict[str, Any]) -> None:
        # The event is sent while the call is in the replica, which takes 0.3 s for it.
        if event == {"event": "stage_started", "stage": "REASONING", "candidates": 4} and not killed:
            killed.extend(replica_pids("generate-reasoning"))
            os.kill(killed[0], signal.SIGKILL)

    with ThreadPoolExecutor(9) as pool:
        others = [pool.submit(ask, url, None, f"Question {number}?") for number in range(8)]
        watched = pool.submit(ask, url, None, "Which?", on_event=kill_once)
        answers = [each.result(timeout=120) for each in (watched, *others)]
    assert len(killed) == 1
    assert [answer.conclusion for answer in answers] == ["yes, it is"] * 9
    assert killed[0] not in replica_pids("generate-reasoning")
