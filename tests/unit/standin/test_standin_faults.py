"""The stand-in over a failing wire: each fault as a client meets it, and the ledger of what was answered."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import openai
import psutil
import pytest
from standin_cases import chat

from reasoning.prompts import annotation_prompt
from stagebeam.standin.faults import StandInConfig, TransportFault, transport_fault_of
from stagebeam.standin.ledger import read_ledger
from stagebeam.standin.process import StandIn, start_standin
from stagebeam.world.dataset import make_questions

QUESTIONS = make_questions(12, seed=4, split="test")


def only(**rates: Any) -> StandInConfig:
    return StandInConfig(**{**StandInConfig.faultless().model_dump(), **rates})


def ask(
    standin: StandIn, number: int = 0, *, name: str = "", timeout: float = 5.0
) -> tuple[int, dict[str, str], bytes]:
    """One request without any client's patience: status, headers, body."""
    question = QUESTIONS[number]
    url = urlparse(standin.base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=timeout)
    headers = {"Content-Type": "application/json", **({"X-Client-Request-Id": name} if name else {})}
    body = json.dumps({"model": standin.model, "messages": chat(question, annotation_prompt(question))})
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def text_of(body: bytes) -> str:
    return str(json.loads(body)["choices"][0]["message"]["content"])


def test_faults_come_at_their_rates_and_repeat_for_the_stubborn_share_only() -> None:
    config = only(hang=0.1, rate_limited=0.2, stubborn=0.5)
    keys = [f"request {i}" for i in range(2000)]
    first = Counter(transport_fault_of(config, key, 0) for key in keys)
    assert first[TransportFault.HANG] == pytest.approx(200, abs=50)
    assert first[TransportFault.RATE_LIMITED] == pytest.approx(400, abs=70)
    again = Counter(transport_fault_of(config, key, 1) for key in keys)
    assert again[TransportFault.HANG] == pytest.approx(100, abs=35)
    assert [transport_fault_of(config, key, 1) for key in keys] == [transport_fault_of(config, key, 5) for key in keys]
    assert not any(transport_fault_of(only(hang=1.0, stubborn=0.0), key, 1) for key in keys)


def test_each_fault_as_it_arrives_and_the_answer_when_asked_again(tmp_path: Path) -> None:
    def met(fault: str, **more: Any) -> tuple[Any, list[str]]:
        ledger = tmp_path / fault
        with start_standin(only(**{fault: 1.0, "stubborn": 0.0, "ledger": str(ledger), **more})) as standin:
            try:
                outcome: Any = ask(standin, timeout=1.0)
            except (OSError, http.client.HTTPException) as error:
                outcome = error
            status, _, body = ask(standin)
            assert (status, "<CONCLUSION>" in text_of(body)) == (200, True)
            assert standin.stats()["faults"] == {fault: 1}
            return outcome, read_ledger(ledger)

    (status, headers, _), ledger = met("rate_limited", retry_after_s=3)
    assert (status, headers["retry-after"], len(ledger)) == (429, "3", 1)
    (status, _, _), _ = met("server_error")
    assert status in (500, 502, 503)
    hung, ledger = met("hang")
    assert isinstance(hung, TimeoutError)
    assert len(ledger) == 1
    cut, ledger = met("cut_body")
    assert isinstance(cut, http.client.IncompleteRead)
    assert 0 < len(cut.partial) == pytest.approx(cut.expected or 0, abs=1)
    assert len(ledger) == 1
    (status, _, body), ledger = met("empty_choices")
    assert (status, json.loads(body)["choices"], len(ledger)) == (200, [], 1)
    (status, headers, body), _ = met("invalid_json")
    assert (status, headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="line 1"):
        json.loads(body)
    (status, headers, body), _ = met("garbage_type")
    assert (status, headers["content-type"].split(";")[0], body[:9]) == (200, "text/html", b"<!DOCTYPE")


def test_dripping_reply_arrives_whole_and_late(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with start_standin(only(slow_drip=1.0, drip_s=0.5, ledger=str(ledger))) as standin:
        started = time.monotonic()
        _, _, body = ask(standin, timeout=0.4)
        assert time.monotonic() - started >= 0.4
        assert "<CONCLUSION>" in text_of(body)
        assert len(read_ledger(ledger)) == 1


def test_a_burst_turns_the_next_away_too() -> None:
    with start_standin(only(rate_limited=1.0, stubborn=0.0, burst_length=3, retry_after_s=0)) as standin:
        statuses = [ask(standin, number)[0] for number in (0, 0, 0, 0)]
    assert statuses == [429, 429, 429, 200]


def test_openai_client_gets_through_all_of_them_with_patience() -> None:
    rates = {name.value: 0.1 for name in TransportFault if name is not TransportFault.HANG}
    config = only(**rates, stubborn=0.0, drip_s=0.2, retry_after_s=0)
    with start_standin(config) as standin, openai.OpenAI(base_url=standin.base_url, api_key="none") as client:
        for question in QUESTIONS:
            messages: Any = chat(question, annotation_prompt(question))
            for _ in range(3):
                try:
                    reply = client.chat.completions.create(model=standin.model, messages=messages)
                    found = reply.choices[0].message.content or ""
                except (openai.APIError, ValueError, AttributeError, IndexError, TypeError):
                    continue
                break
            assert "<CONCLUSION>" in found
        assert len(standin.stats()["faults"]) >= 3


def test_hanging_requests_do_not_keep_the_server() -> None:
    with start_standin(only(hang=1.0)) as standin:
        with pytest.raises(TimeoutError):
            ask(standin, timeout=0.2)
        process = psutil.Process(standin.pid)
        started = time.monotonic()
    assert not process.is_running()
    assert time.monotonic() - started < 4


def test_ledger_names_each_answer_once_and_outlives_a_kill(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    config = only(ledger=str(ledger))
    with start_standin(config) as standin:
        port = urlparse(standin.base_url).port or 0
        for number in range(5):
            ask(standin, number, name=f"call-{number}")
        ask(standin, 5)
        os.kill(standin.pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(standin.pid)], timeout=5)
        lines = read_ledger(ledger)
        assert lines[:5] == [f"call-{number}" for number in range(5)]
        assert len(lines[5]) == 64
        with pytest.raises(OSError, match="refused"):
            ask(standin)
        with start_standin(config, port=port) as again:
            assert again.base_url == standin.base_url
            ask(again, 1, name="call-1")
    assert read_ledger(ledger)[6:] == ["call-1"]
    assert read_ledger(tmp_path / "none") == []


def test_ledger_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    from reasoning.errors import TeacherError

    with pytest.raises(TeacherError, match="did not start"), start_standin(only(ledger=str(tmp_path / "no" / "x"))):
        pass
