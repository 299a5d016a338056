"""Secrets stay secret: in reprs, logs and error texts."""

from __future__ import annotations

import pickle

import pytest

from cluster.logs import configure_logging, get_logger, hide_secrets
from cluster.secrets import Secret, read_secret, redact
from reasoning.errors import ConfigError


def test_secret_is_shown_nowhere() -> None:
    secret = Secret("sk-very-secret")
    assert "very" not in f"{secret} {secret!r} {[secret]}"
    assert pickle.loads(pickle.dumps(secret)).reveal() == "sk-very-secret"


def test_unset_variable_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"teacher\.api_key_env.*TEACHER_KEY"):
        read_secret("TEACHER_KEY", wanted_by="teacher.api_key_env")
    monkeypatch.setenv("TEACHER_KEY", " sk-1 \n")
    assert read_secret("TEACHER_KEY", wanted_by="x") == Secret("sk-1")
    assert read_secret(None, wanted_by="x") is None


def test_redact_removes_the_value() -> None:
    assert redact("wrong key sk-1!", [Secret("sk-1"), None]) == "wrong key [hidden]!"


def test_logs_hide_what_is_named_like_a_secret() -> None:
    event = {
        "event": "call",
        "api_key": "sk",
        "headers": {"Authorization": "Bearer x", "accept": "json"},
        "tokens": 12,
        "key": Secret("sk"),
    }
    shown = hide_secrets(None, "info", event)
    assert shown == {
        "event": "call",
        "api_key": "[hidden]",
        "headers": {"Authorization": "[hidden]", "accept": "json"},
        "tokens": 12,
        "key": "[hidden]",
    }


def test_quiet_below_the_level_and_heard_above(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", as_json=True)
    log = get_logger("test")
    log.info("not this")
    log.warning("this", password="x")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "not this" not in shown.err
    assert '"this"' in shown.err
    assert '"x"' not in shown.err


def test_unknown_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="'loud'"):
        configure_logging("loud")
