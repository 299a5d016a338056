"""Which chat requests were answered in full: a file that says so whatever becomes of the server.

One line for each answer: the request's ``X-Client-Request-Id``, or a hash of its body where it has
none. A line is written before the last byte of its answer is sent, and to the operating system, so
that it survives a SIGKILL of the server; a server that is started again adds to the file. An answer
whose client was gone before the last byte has its line too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path


class Ledger:
    """Adds lines to a file."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def add(self, call: str) -> None:
        """Note that ``call`` is answered."""
        os.write(self._file, f"{call}\n".encode())


def name_of_call(headers: Mapping[str, str], body: bytes) -> str:
    """What the ledger calls a request."""
    return headers.get("x-client-request-id", "").strip() or hashlib.sha256(body).hexdigest()


def read_ledger(path: str | Path) -> list[str]:
    """The whole lines of a ledger, oldest first; none while there is no file."""
    try:
        text = Path(path).read_text()
    except FileNotFoundError:
        return []
    return text.split("\n")[:-1]
