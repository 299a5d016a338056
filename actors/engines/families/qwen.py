"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: an image among the text tokens, and positions in three dimensions.

The models keep the offset of a prompt's positions between calls (``rope_deltas``), one for all rows
and for whoever comes next. Here every row's positions are computed from its own image and passed.
"""

from __future__ import annotations

from typing import Any, Self

import torch

from actors.engines.families.inline import InlineFamily, InlineSlots
from actors.engines.image_store import EncodedImage, ImageSpan

_NO_IMAGE = [0, 0, 1, 1]


class QwenSlots(InlineSlots):
    """Also where each row's image lies and how its tokens are arranged."""

    def __init__(self, merge: int, rows: int, device: torch.device) -> None:
        super().__init__()
        self._merge = merge
        self._spans = torch.tensor([_NO_IMAGE] * rows, device=device)
        """First column of the image, the column after it, its rows and columns of tokens."""

    def reserve(self, rows: int) -> None:
        more = rows - self._spans.shape[0]
        if more > 0:
            # As much again, at least: rows join a few at a time.
            added = self._spans.new_tensor([_NO_IMAGE] * max(more, len(self._spans)))
            self._spans = torch.cat([self._spans, added])

    def place(self, row: int, image: EncodedImage | None, span: ImageSpan, known: int) -> None:
        super().place(row, image, span, known)
        if len(span.columns):
            _, height, width = span.grid
            first, last = int(span.columns[0]), int(span.columns[-1])
            values = [first, last + 1, height // self._merge, width // self._merge]
        else:
            values = _NO_IMAGE
        self._spans[row] = torch.tensor(values, device=self._spans.device)

    def copy_row(self, source: int, target: int) -> None:
        self._spans[target] = self._spans[source]

    def fork_from(self, other: Self, source: int, targets: range) -> None:
        self._spans[targets.start : targets.stop] = other._spans[source]

    def positions(self, columns: torch.Tensor) -> torch.Tensor:
        """Time, height and width of the tokens in ``columns`` [rows, tokens]: [3, rows, tokens].

        As the models' ``get_rope_index`` has it for a still image: text counts on, the image's tokens
        stand in a grid that begins at the next number, the text after it goes on behind its longer side.
        """
        first, end, height, width = self._spans[: columns.shape[0], :, None].unbind(1)
        inside = columns - first
        after = columns - (end - first) + torch.maximum(height, width)
        # Still images have one layer in time, and it lies at the image's first number.
        axes = (torch.zeros_like(inside), inside // width, inside % width)
        is_inside = (inside >= 0) & (columns < end)
        is_after = (columns >= end) & (end > first)
        return torch.stack(
            [torch.where(is_inside, first + axis, torch.where(is_after, after, columns)) for axis in axes]
        )


class QwenFamily(InlineFamily):
    """An inline model whose slots know positions."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._merge: int = model.config.vision_config.spatial_merge_size

    def new_image_slots(self, rows: int) -> QwenSlots:
        return QwenSlots(self._merge, rows, self._model.device)
