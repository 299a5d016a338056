"""Unit tests start no Ray: a fixture that every one of them gets refuses it."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
import ray


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise AssertionError("tests/unit may not start Ray; a test that needs it belongs to tests/cluster")


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ray.init`` raises; the start on first use calls it too."""
    monkeypatch.setattr(ray, "init", _refuse)
    monkeypatch.setattr("ray._private.worker.init", _refuse)
