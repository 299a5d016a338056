"""Which row kills its worker: marks that outlive a worker's death.

Ray starts a dead worker anew and gives it the same shard, for ever. So each attempt at a shard
leaves a mark, and so does, once several attempts did not end, each row that is taken in hand alone:
a row that was in hand when workers died is given up, and the others are done.
"""

from __future__ import annotations

import hashlib
import uuid

from cluster.stores import Store

FOLDER = "attempts"
CAREFUL_AFTER = 3
"""Attempts at a shard that did not end; from then on its rows are done one at a time."""
GIVEN_UP_AFTER = 2
"""Deaths with a row alone in hand; one of them may have been somebody's SIGKILL."""


class ShardAttempts:
    """The attempts at one shard, this one included."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._folder = f"{FOLDER}/{key}"
        self._own = f"{self._folder}/try-{uuid.uuid4().hex}"
        self._before: list[str] = []

    @property
    def is_careful(self) -> bool:
        """Whether rows are to be done one at a time, each marked before."""
        return sum("/try-" in name for name in self._before) >= CAREFUL_AFTER

    def begin(self) -> None:
        """Mark that this attempt has begun."""
        self._before = self._store.names(self._folder)
        self._store.write(self._own, b"")

    def call_off(self) -> None:
        """The attempt ends without a death: the run is stopped."""
        self._store.remove(self._own)

    def deaths_with(self, row: str) -> int:
        """How many attempts ended with this row alone in hand."""
        return sum(f"/{_mark(row)}-" in name for name in self._before)

    def take(self, row: str) -> str:
        """Mark a row as in hand; give what this answers to ``put_down``."""
        name = f"{self._folder}/{_mark(row)}-{uuid.uuid4().hex}"
        self._store.write(name, b"")
        return name

    def put_down(self, mark: str) -> None:
        """The row is done, and the worker lives."""
        self._store.remove(mark)

    def end(self) -> None:
        """The shard is committed: its marks are of no more use."""
        for name in self._store.names(self._folder):
            self._store.remove(name)


def _mark(row: str) -> str:
    return "row-" + hashlib.sha256(row.encode()).hexdigest()[:20]
