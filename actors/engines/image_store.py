"""Encoded images, kept by their key up to a number of bytes, the least recently used leaving first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch

from actors.engines.prefix_tree import Ids


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """What a model keeps of an image once it has looked at it."""

    state: torch.Tensor
    """Mllama: keys and values of the cross-attention layers, [layers, 2, heads, positions, head_size].
    Others: what stands at the image's tokens, and what deeper layers add there, [1 + layers, tokens, size]."""
    tiles: tuple[int, ...]
    """Mllama: 1 for each tile in use, 0 for padding. Others: empty."""


@dataclass(frozen=True, kw_only=True)
class ImageSpan:
    """Where a prompt's image stands in it."""

    columns: Ids
    """The image's tokens, ascending; empty for a prompt without image. Mllama has one."""
    grid: tuple[int, int, int] = (1, 1, 1)
    """Qwen: patches in time, height and width."""


class ImageStore:
    """Image key to encoded image."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._images: OrderedDict[str, EncodedImage] = OrderedDict()
        self.bytes = 0
        """What the images held take up."""

    def get(self, key: str) -> EncodedImage | None:
        found = self._images.get(key)
        if found is not None:
            self._images.move_to_end(key)
        return found

    def put(self, key: str, image: EncodedImage) -> None:
        """Keep an image; one that alone is larger than the cap stays until the next comes."""
        if key in self._images:
            self.bytes -= self._images.pop(key).state.nbytes
        self._images[key] = image
        self.bytes += image.state.nbytes
        while self.bytes > self._max_bytes and len(self._images) > 1:
            _, oldest = self._images.popitem(last=False)
            self.bytes -= oldest.state.nbytes
