"""The stand-in as a process: it answers the real client, and never outlives its starter."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import openai
import psutil
import pytest
from standin_cases import chat

from reasoning.errors import PortInUseError
from reasoning.prompts import annotation_prompt
from reasoning.stages import STAGES
from stagebeam.standin.faults import StandInConfig
from stagebeam.standin.process import start_standin
from stagebeam.world.dataset import make_questions

STARTER = """
import sys
from stagebeam.standin.process import start_standin
with start_standin() as standin:
    print(standin.pid, flush=True)
    sys.stdin.read()
"""


def test_openai_client_is_answered_limited_and_counted() -> None:
    question = make_questions(1, seed=1, split="test")[0]
    config = StandInConfig(**{**StandInConfig.faultless().model_dump(), "rate_limits": 1, "server_errors": 1})
    with start_standin(config) as standin:
        client = openai.OpenAI(base_url=standin.base_url, api_key="none", max_retries=0)
        messages: Any = chat(question, annotation_prompt(question))
        with client:
            with pytest.raises(openai.RateLimitError) as limited:
                client.chat.completions.create(model=standin.model, messages=messages)
            assert limited.value.response.headers["retry-after"] == "1"
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(model=standin.model, messages=messages)
            reply = client.chat.completions.create(model=standin.model, messages=messages)
            assert [m.id for m in client.models.list()] == [standin.model]
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model=standin.model, messages=[])
        stats = standin.stats()
    text = reply.choices[0].message.content or ""
    assert all(stage.open_tag in text for stage in STAGES)
    assert "stand-in" in reply.model
    assert "stand-in" in (reply.system_fingerprint or "")
    assert reply.usage is not None
    assert reply.usage.total_tokens > 100
    assert stats["calls"] == {"annotation": 1}
    assert stats["statuses"] == {"429": 1, "503": 1, "200": 1, "400": 1}
    assert not psutil.pid_exists(standin.pid)


def test_taken_port_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=str(port)), start_standin(port=port):
            pass


def test_it_ends_when_its_starter_is_killed() -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert starter.stdout is not None
        standin = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
        starter.wait()
        assert psutil.wait_procs([standin], timeout=10)[1] == []
    finally:
        starter.kill()
        starter.communicate()
