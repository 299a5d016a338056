"""Which keys are kept where, in a few bytes each: so that asking for one that is not costs no reading."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_RECENT = 8192
"""So many marks may stand in the list of recent ones before they are sorted in."""


class MarkIndex:
    """From the mark of a key to the places it may be at: a file's number and a row in it.

    Sixteen bytes for each key that was added, sorted: a million keys are 16 MB. Two keys may share a
    mark, so a place found here must be looked at. Not safe for threads by itself.
    """

    def __init__(self) -> None:
        self._marks: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._files: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        self._rows: npt.NDArray[np.uint32] = np.empty(0, np.uint32)
        self._recent: dict[int, list[tuple[int, int]]] = {}
        self._recent_count = 0

    def __len__(self) -> int:
        return len(self._marks) + self._recent_count

    def add(self, marks: Sequence[int], file: int, rows: Sequence[int]) -> None:
        """Note that the keys of ``marks`` are in ``rows`` of ``file``."""
        if len(marks) > _RECENT:
            self._sort_in(np.array(marks, np.uint64), np.full(len(rows), file, np.uint32), np.array(rows, np.uint32))
            return
        for mark, row in zip(marks, rows, strict=True):
            self._recent.setdefault(mark, []).append((file, row))
        self._recent_count += len(marks)
        if self._recent_count > _RECENT:
            self._sort_recent_in()

    def places(self, mark: int) -> list[tuple[int, int]]:
        """The places of the keys with this mark, in the order they were added in."""
        wanted = np.uint64(mark)
        first = int(np.searchsorted(self._marks, wanted, side="left"))
        last = int(np.searchsorted(self._marks, wanted, side="right"))
        found = [(int(self._files[i]), int(self._rows[i])) for i in range(first, last)]
        return found + self._recent.get(mark, [])

    def _sort_recent_in(self) -> None:
        flat = [(mark, file, row) for mark, places in self._recent.items() for file, row in places]
        marks, files, rows = zip(*flat, strict=True)
        self._recent.clear()
        self._recent_count = 0
        self._sort_in(np.array(marks, np.uint64), np.array(files, np.uint32), np.array(rows, np.uint32))

    def _sort_in(
        self, marks: npt.NDArray[np.uint64], files: npt.NDArray[np.uint32], rows: npt.NDArray[np.uint32]
    ) -> None:
        all_marks = np.concatenate([self._marks, marks])
        order = np.argsort(all_marks, kind="stable")
        self._marks = all_marks[order]
        self._files = np.concatenate([self._files, files])[order]
        self._rows = np.concatenate([self._rows, rows])[order]
