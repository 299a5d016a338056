"""Rows of an SFT shard to the tensors of one forward pass.

Tokenisation and image preparation are ``actors.chat``'s, the same that the engine uses; here rows are
cut, kept for the next epoch, and padded into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from reasoning.records import Turn

Encoded = dict[str, torch.Tensor]
EncodeRow = Callable[[Mapping[str, Any]], Encoded]

IGNORED_LABEL = -100
WEIGHTS = "loss_weights"
"""How much each token counts in the loss; only where kinds of rows have weights."""
_TEXT_FILL = {
    "attention_mask": 0,
    "labels": IGNORED_LABEL,
    WEIGHTS: 0,
    "cross_attention_mask": 0,
    "mm_token_type_ids": 0,
    "token_type_ids": 0,
}


class RowEncoder:
    """Encodes rows and keeps the results up to ``cache_bytes``.

    Rows come back in the same worker in every epoch, so what fills the memory first stays: with a
    cyclic order, throwing out the oldest would lose every row just before it is needed.
    ``encode`` gives tensors with a batch dimension of one; ``dtype`` is what floating tensors become.
    """

    def __init__(self, encode: EncodeRow, *, max_tokens: int, cache_bytes: int, dtype: torch.dtype) -> None:
        self._encode = encode
        self._max_tokens = max_tokens
        self._room = cache_bytes
        self._dtype = dtype
        self._kept: dict[object, Encoded] = {}

    def __call__(self, row: Mapping[str, Any]) -> Encoded:
        """The row's tensors, text cut to ``max_tokens``."""
        key = (row["id"], row["kind"], row["prompt"], row["response"], turns_of(row))
        found = self._kept.get(key)
        if found is not None:
            return found
        encoded = cut(self._encode(row), self._max_tokens)
        encoded = {name: t.to(self._dtype) if t.is_floating_point() else t for name, t in encoded.items()}
        size = sum(tensor.numel() * tensor.element_size() for tensor in encoded.values())
        if size <= self._room:
            self._room -= size
            self._kept[key] = encoded
        return encoded


def turns_of(row: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The row's earlier turns; none where its shard has no such column."""
    return tuple(Turn(question=turn["question"], answer=turn["answer"]) for turn in row.get("history") or ())


def cut(encoded: Encoded, max_tokens: int) -> Encoded:
    """Text tensors without what lies beyond ``max_tokens``; the others as they are."""
    return {name: t[:, :max_tokens] if name == "input_ids" or name in _TEXT_FILL else t for name, t in encoded.items()}


def collate(rows: Sequence[Encoded], pad_id: int) -> Encoded:
    """One batch: text tensors padded at the end to the longest row, the others joined along their first dimension.

    Padding carries no attention and the label -100. Images cut into fewer tiles than others get blank
    ones, which models leave out. Rows whose image tensors are missing are allowed only together
    (``with_blank_image`` gives Mllama rows one).
    """
    length = max(row["input_ids"].shape[1] for row in rows)
    batch: Encoded = {}
    for name in rows[0]:
        tensors = [row[name] for row in rows]
        if name == "input_ids":
            batch[name] = _pad(tensors, length, pad_id)
        elif name in _TEXT_FILL:
            batch[name] = _pad(tensors, length, _TEXT_FILL[name])
        else:
            batch[name] = torch.cat(_alike(tensors))
    return batch


def _alike(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors with zeros added at the end of every dimension but the first, until they can be joined."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    return [_grown(tensor, [tensor.shape[0], *shape]) for tensor in tensors]


def _grown(tensor: torch.Tensor, shape: list[int]) -> torch.Tensor:
    if list(tensor.shape) == shape:
        return tensor
    grown = tensor.new_zeros(shape)
    grown[tuple(slice(size) for size in tensor.shape)] = tensor
    return grown


def with_blank_image(encoded: Encoded, template: Encoded) -> Encoded:
    """A text-only Mllama row with an image that no token attends to.

    Every worker then runs the vision tower in every pass: ZeRO reduces gradients in the same order
    everywhere, and a pass without them on one side would not match. ``template`` is the encoding of
    any row with an image. Rows of other models are given back unchanged.
    """
    if "pixel_values" in encoded or "cross_attention_mask" not in template:
        return encoded
    tokens = encoded["input_ids"].shape[1]
    tile_mask = torch.zeros_like(template["aspect_ratio_mask"])
    tile_mask[..., 0] = 1
    return {
        **encoded,
        "pixel_values": torch.zeros_like(template["pixel_values"]),
        "aspect_ratio_ids": torch.zeros_like(template["aspect_ratio_ids"]),
        "aspect_ratio_mask": tile_mask,
        "cross_attention_mask": template["cross_attention_mask"].new_zeros(
            (1, tokens, *template["cross_attention_mask"].shape[2:])
        ),
    }


def _pad(tensors: Sequence[torch.Tensor], length: int, value: int) -> torch.Tensor:
    """Tensors of shape (1, t, ...) to (rows, length, ...)."""
    first = tensors[0]
    out = first.new_full((len(tensors), length, *first.shape[2:]), value)
    for index, tensor in enumerate(tensors):
        out[index, : tensor.shape[1]] = tensor[0]
    return out
