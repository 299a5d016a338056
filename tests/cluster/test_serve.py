"""A real model behind real HTTP, asked through the real openai client.

The model is random: it writes no tags. What is seen here is that everything holds together, that
the image counts, and that an answer which is none comes back as a clean reply.
"""

from __future__ import annotations

import base64
import io
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from actors.engines.tiny import build_tiny_mllama
from reasoning.errors import InputError, PortInUseError
from reasoning.protocols import Sampling
from reasoning.search.config import SearchConfig
from serve.client import ask
from serve.config import ServeConfig, Topology
from serve.launch import check_port, run_serving


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServeConfig:
    model = tmp_path_factory.mktemp("model") / "tiny"
    build_tiny_mllama(model)
    search = SearchConfig(samples=2, sampling=Sampling(max_new_tokens=12))
    return ServeConfig(model=model, port=free_port(), topology=Topology.SHARED, search=search)


@pytest.fixture(scope="module")
def url(ray_local: object, config: ServeConfig) -> Iterator[str]:
    with run_serving(config) as base_url:
        yield base_url


def text_of(url: str, image: bytes, **fields: Any) -> str:
    """What the model wrote, whether or not an answer could be read from it."""
    data_url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    with openai.OpenAI(base_url=url, api_key="unused") as client:
        reply = client.chat.completions.create(
            model="stagebeam",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": data_url}},
                        {"type": "text", "text": "How many?"},
                    ],
                }
            ],
            extra_body={"include_stages": True, **fields},
        )
    return str((reply.model_extra or {})["stagebeam"]["text"])


def test_answer_without_tags_is_a_reply_with_its_fault(url: str) -> None:
    answer = ask(url, png("red"), "How many?", include_stages=True, include_trace=True)
    assert answer.conclusion is None
    assert answer.stages is None
    assert answer.fault
    assert answer.fault.startswith("summary.")
    assert answer.finish_reason in ("length", "stop")
    assert answer.ledger.generated_tokens > 0
    assert answer.ledger.image_encodes >= 1
    assert answer.trace is not None
    assert all(candidate.fault for candidate in answer.trace.candidates)


def test_direct_answer_is_a_conclusion_with_usage(url: str) -> None:
    answer = ask(url, png("red"), "How many?", strategy="direct", max_tokens=5)
    assert answer.fault is None
    assert answer.conclusion is not None
    assert 0 < answer.ledger.generated_tokens <= 5


def test_same_seed_same_text_and_another_image_another(url: str) -> None:
    red = text_of(url, png("red"), seed=3)
    assert red == text_of(url, png("red"), seed=3)
    assert red != text_of(url, png("blue"), seed=3)


def test_stream_of_a_real_model_ends_with_details(url: str) -> None:
    events: list[dict[str, Any]] = []
    answer = ask(url, png("red"), "How many?", on_event=events.append)
    assert events[0]["event"] == "stage_started"
    assert answer.fault is not None


def test_refusals_reach_the_caller_in_words(url: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(png("red")[:50])
    with pytest.raises(InputError, match="400"):
        ask(url, broken, "How many?")
    with pytest.raises(InputError, match="question is empty"):
        ask(url, png("red"), " ")
    with pytest.raises(InputError, match="does not exist"):
        ask(url, png("red"), "How many?", model="other")


def test_its_port_is_taken_while_it_runs(url: str, config: ServeConfig) -> None:
    with pytest.raises(PortInUseError):
        check_port(config.host, config.port)
