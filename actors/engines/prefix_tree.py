"""Keys and values of prefixes that were computed before, shared by all that begin alike.

A radix tree over token ids for each image (what a token leaves behind depends on the image that
the model looks at). Each node holds the ids on its edge and their keys and values, so candidates
that continue one prefix share it. The least recently used leaves go first when the cap is reached.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import torch

Ids = np.ndarray[tuple[int], np.dtype[np.int64]]


class _Node:
    __slots__ = ("children", "edge", "ids", "parent", "segment", "used")

    def __init__(self, parent: _Node | None, edge: Hashable, ids: Ids, segment: torch.Tensor | None) -> None:
        self.parent = parent
        self.edge = edge
        """The key under which the parent knows this node: its first id; at the top the image's key."""
        self.ids = ids
        self.segment = segment
        self.children: dict[Hashable, _Node] = {}
        self.used = 0


_NO_IDS: Ids = np.empty(0, dtype=np.int64)


def _shared(first: Ids, second: Ids) -> int:
    """Length of the common start."""
    size = min(len(first), len(second))
    differs = first[:size] != second[:size]
    return int(differs.argmax()) if differs.any() else size


class PrefixTree:
    """Segments are ``[layers, 2, heads, tokens, head_size]``, as ``KvRows`` reads and writes them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._top = _Node(None, None, _NO_IDS, None)
        self._clock = 0
        self.bytes = 0
        """What the segments held take up."""

    @property
    def is_keeping(self) -> bool:
        """Whether there is room for anything at all."""
        return self._max_bytes > 0

    def match(self, key: str, ids: Ids) -> tuple[int, list[torch.Tensor]]:
        """How many leading ids are known, and their segments in order."""
        self._clock += 1
        node = self._top.children.get(key)
        length, segments = 0, []
        while node is not None:
            node.used = self._clock
            known = _shared(node.ids, ids[length:])
            if known and node.segment is not None:
                segments.append(node.segment[:, :, :, :known])
            length += known
            if known < len(node.ids) or length == len(ids):
                break
            node = node.children.get(int(ids[length]))
        return length, segments

    def missing_from(self, key: str, ids: Ids) -> int:
        """How many leading ids are known; what ``insert`` needs is the rest."""
        return self.match(key, ids)[0]

    def insert(self, key: str, ids: Ids, start: int, segment: torch.Tensor) -> None:
        """Add ``ids``; ``segment`` belongs to ``ids[start:]`` and ``start`` is what ``missing_from`` said."""
        if len(ids) == start:
            return
        self._clock += 1
        node = self._top.children.get(key)
        if node is None:
            node = self._top.children[key] = _Node(self._top, key, _NO_IDS, None)
        length = 0
        while True:
            node.used = self._clock
            known = _shared(node.ids, ids[length:])
            if known < len(node.ids):
                node = self._split(node, known)
            length += known
            child = node.children.get(int(ids[length])) if length < len(ids) else None
            if child is None:
                break
            node = child
        if length != start:
            raise ValueError(f"the tree knows {length} of these ids, the segment begins at {start}")
        leaf = _Node(node, int(ids[start]), ids[start:].copy(), segment)
        leaf.used = self._clock
        node.children[leaf.edge] = leaf
        self.bytes += segment.nbytes
        self._evict()

    def _split(self, node: _Node, at: int) -> _Node:
        """Cut a node's edge in two; returns the upper part."""
        assert node.segment is not None
        assert node.parent is not None
        upper = _Node(node.parent, node.edge, node.ids[:at], node.segment[:, :, :, :at].clone())
        upper.used = node.used
        node.parent.children[node.edge] = upper
        node.segment = node.segment[:, :, :, at:].clone()
        node.ids = node.ids[at:]
        node.edge = int(node.ids[0])
        node.parent = upper
        upper.children[node.edge] = node
        return upper

    def _evict(self) -> None:
        """Drop least recently used leaves until a tenth of the room is free again."""
        if self.bytes <= self._max_bytes:
            return
        while self.bytes > self._max_bytes * 9 // 10:
            leaves = sorted(self._leaves(), key=lambda node: node.used)
            if not leaves:
                return
            for leaf in leaves:
                if self.bytes <= self._max_bytes * 9 // 10:
                    return
                self._drop(leaf)

    def _leaves(self) -> list[_Node]:
        found, stack = [], list(self._top.children.values())
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            if not node.children:
                found.append(node)
        return found

    def _drop(self, node: _Node) -> None:
        assert node.parent is not None
        del node.parent.children[node.edge]
        self.bytes -= node.segment.nbytes if node.segment is not None else 0
