"""The client's own refusals; what it reads from a real service is tested in tests/cluster."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from serve_fakes import png

from reasoning.errors import EngineError, InputError
from serve.client import ask, is_healthy, sniff_media_type


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_missing_image_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png"):
        ask("http://127.0.0.1:1", tmp_path / "none.png", "How many?")


def test_unknown_option_is_named() -> None:
    with pytest.raises(InputError, match="sampels"):
        ask("http://127.0.0.1:1", png(), "How many?", sampels=3)


def test_service_that_is_not_there_is_said_with_the_way_out() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert not is_healthy(url)
    with pytest.raises(EngineError, match="stagebeam serve"):
        ask(url, png(), "How many?")


def test_media_type_is_told_from_the_first_bytes() -> None:
    assert sniff_media_type(png()) == "image/png"
    assert sniff_media_type(b"\xff\xd8\xff\xe0") == "image/jpeg"
    assert sniff_media_type(b"RIFF1234WEBP") == "image/webp"
