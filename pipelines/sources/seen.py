"""A set of identities that stays small for millions of them. It can only be added to."""

from __future__ import annotations

import hashlib
from array import array


class SeenKeys:
    """Which identities were there before, at sixteen to thirty-two bytes each: data sets have millions.

    Open addressing over 64-bit keys. Two of ten million rows share one by chance with p < 1e-5.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, identity: str) -> bool:
        key = self._key(identity)
        return self._slots[self._slot(self._slots, key)] == key

    def add(self, identity: str) -> bool:
        """Whether it was new."""
        key = self._key(identity)
        slot = self._slot(self._slots, key)
        if self._slots[slot] == key:
            return False
        self._slots[slot] = key
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()
        return True

    def _grow(self) -> None:
        larger = array("Q", bytes(16 * len(self._slots)))
        for key in self._slots:
            if key:
                larger[self._slot(larger, key)] = key
        self._slots = larger

    @staticmethod
    def _slot(slots: array[int], key: int) -> int:
        """Where ``key`` is, or the free place where it belongs."""
        mask = len(slots) - 1
        place = key & mask
        while slots[place] not in (0, key):
            place = (place + 1) & mask
        return place

    @staticmethod
    def _key(identity: str) -> int:
        # Never 0, which marks a free place.
        return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") or 1
