"""Secrets stay secret: in reprs, logs and error texts."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cluster.logs import configure_logging, get_logger, hide_secrets
from cluster.secrets import Secret, read_secret, read_secret_file, redact
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


def test_a_secret_file_is_read_without_its_line_break(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1234\n")
    secret = read_secret_file(str(tmp_path / "key"), wanted_by="engine")
    assert secret is not None
    assert secret.reveal() == "sk-1234"
    assert read_secret_file(None, wanted_by="engine") is None


@pytest.mark.parametrize("content", [None, " \n"])
def test_a_secret_file_that_holds_none_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(ConfigError, match=r"engine names the file .*key"):
        read_secret_file(str(tmp_path / "key"), wanted_by="engine")
