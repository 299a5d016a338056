"""Keys and values of the rows that are being worked on, in buffers that are written in place.

A row's token ``i`` lies in column ``i``: rows of different length stand side by side without
padding on the left, and what lies beyond a row's length is masked. Joining, forking and leaving
copy one row. Knows nothing of images, prompts or sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True, kw_only=True)
class KvShape:
    """What one token leaves behind in the self-attention layers."""

    layers: int
    heads: int
    """Key-value heads a layer."""
    head_size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        return 2 * self.layers * self.heads * self.head_size * self.dtype.itemsize


class KvRows:
    """A buffer ``[layers, 2, rows, heads, columns, head_size]`` that grows when asked to.

    Heads lie outside columns so that a step's keys are one strided batch of matrices: without a
    copy for ``bmm``.
    """

    def __init__(self, shape: KvShape, rows: int, columns: int) -> None:
        self.shape = shape
        self._buffer = self._allocate(rows, columns)

    def _allocate(self, rows: int, columns: int) -> torch.Tensor:
        s = self.shape
        # Zeros, not whatever lay there: a masked NaN would still poison the sum over values.
        return torch.zeros(s.layers, 2, rows, s.heads, columns, s.head_size, dtype=s.dtype, device=s.device)

    @property
    def rows(self) -> int:
        return self._buffer.shape[2]

    @property
    def columns(self) -> int:
        return self._buffer.shape[4]

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for so many rows and columns; what is there stays."""
        if rows <= self.rows and columns <= self.columns:
            return
        old = self._buffer
        new_rows = rows if rows <= self.rows else max(rows, 2 * self.rows)
        new_columns = columns if columns <= self.columns else max(columns, self.columns + self.columns // 2)
        self._buffer = self._allocate(max(new_rows, self.rows), max(new_columns, self.columns))
        self._buffer[:, :, : old.shape[2], :, : old.shape[4]] = old

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Row ``target`` becomes row ``source``, as far as column ``length``."""
        self._buffer[:, :, target, :, :length] = self._buffer[:, :, source, :, :length]

    def clear(self, row: int) -> None:
        """Zeros all over a row."""
        self._buffer[:, :, row] = 0

    def write(self, row: int, start: int, segment: torch.Tensor) -> None:
        """Put a segment ``[layers, 2, heads, tokens, head_size]`` into a row from column ``start`` on."""
        self._buffer[:, :, row, :, start : start + segment.shape[3]] = segment

    def read(self, row: int, start: int, end: int) -> torch.Tensor:
        """A copy of columns ``start`` to ``end`` of a row, as ``write`` takes it."""
        return self._buffer[:, :, row, :, start:end].clone()

    def fork_from(self, other: KvRows, source: int, targets: range, length: int) -> None:
        """Rows ``targets`` become row ``source`` of another buffer, as far as column ``length``."""
        row = other._buffer[:, :, source, :, :length]
        self._buffer[:, :, targets.start : targets.stop, :, :length] = row.unsqueeze(2)

    def layer(self, index: int, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of keys and values ``[rows, heads, columns, head_size]`` of one layer."""
        part = self._buffer[index, :, :rows, :, :columns]
        return part[0], part[1]


class _SelfLayer(CacheLayerMixin):
    """One self-attention layer: writes new keys and values at their columns, hands back all."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, index: tuple[torch.Tensor, torch.Tensor]) -> None:
        super().__init__()
        self.keys, self.values, self._index = keys, values, index
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise RuntimeError("the buffers of a step exist before the step")

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.keys is not None
        assert self.values is not None
        # Two index tensors around a slice: torch puts the indexed dimensions first.
        rows, columns = self._index
        self.keys[rows, :, columns] = key_states.transpose(1, 2)
        self.values[rows, :, columns] = value_states.transpose(1, 2)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        assert self.keys is not None
        return self.keys.shape[2], 0

    def get_seq_length(self) -> int:
        assert self.keys is not None
        return self.keys.shape[2]

    def get_max_length(self) -> int:
        return self.get_seq_length()


class _FixedLayer(CacheLayerMixin):
    """A cross-attention layer: keys and values of the images ``[rows, heads, positions, head_size]``."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise RuntimeError("the image's keys and values exist before the step")

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        raise RuntimeError("images are encoded once, outside the steps")

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length(), 0

    def get_seq_length(self) -> int:
        assert self.keys is not None
        return self.keys.shape[2]

    def get_max_length(self) -> int:
        return self.get_seq_length()


def step_cache(
    rows: KvRows,
    positions: torch.Tensor,
    columns: int,
    layer_count: int,
    cross: dict[int, tuple[torch.Tensor, torch.Tensor]],
) -> Cache:
    """The cache object of one forward step.

    ``positions`` ``[rows, tokens]`` are the columns the step's tokens are written to; the step sees
    ``columns`` of them. ``cross`` maps a cross-attention layer to the images' keys and values.
    """
    count = positions.shape[0]
    index = (torch.arange(count, device=positions.device)[:, None], positions)
    layers: list[CacheLayerMixin] = []
    inner = 0
    for number in range(layer_count):
        if number in cross:
            layers.append(_FixedLayer(*cross[number]))
        else:
            keys, values = rows.layer(inner, count, columns)
            layers.append(_SelfLayer(keys, values, index))
            inner += 1
    return Cache(layers=layers)
