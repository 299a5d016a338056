"""Secrets: read from the environment or a file by name, carried without being shown.

A configuration names the variable or the file, never the value. This is one of the few places that read the
environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from reasoning.errors import ConfigError

HIDDEN = "[hidden]"


class Secret:
    """A text that no repr, format or log shows; ``reveal`` gives it to the one who has to send it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def read_secret(variable: str | None, *, wanted_by: str) -> Secret | None:
    """The secret in environment variable ``variable``; None when no variable is named.

    Raises ConfigError, naming ``wanted_by`` and the variable, when it is not set or empty.
    """
    if variable is None:
        return None
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigError(f"{wanted_by} names the environment variable {variable!r}, which is not set; export it first")
    return Secret(value)


def read_secret_file(file: str | None, *, wanted_by: str) -> Secret | None:
    """The secret in ``file``, less white space around it, such as a mounted one; None when no file is named.

    Raises ConfigError, naming ``wanted_by`` and the file, when it cannot be read or is empty.
    """
    if file is None:
        return None
    try:
        value = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{wanted_by} names the file {file!r}, which cannot be read: {error}") from error
    if not value:
        raise ConfigError(f"{wanted_by} names the file {file!r}, which is empty")
    return Secret(value)


def redact(text: str, secrets: Iterable[Secret | None]) -> str:
    """``text`` with every secret in it replaced."""
    for secret in secrets:
        if secret is not None and secret.reveal():
            text = text.replace(secret.reveal(), HIDDEN)
    return text
