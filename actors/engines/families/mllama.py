"""Llama-3.2-Vision: the image enters through cross-attention layers, text tokens never hold it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch

from actors.chat import ImageFacts
from actors.engines.families.base import Step, causal_mask, kv_shape, last_logits
from actors.engines.image_store import EncodedImage, ImageSpan
from actors.engines.kv import KvRows, KvShape, step_cache
from reasoning.errors import EngineError


class MllamaSlots:
    """Keys and values of the rows' images, and from which column on they are seen."""

    def __init__(self, shape: KvShape, positions: int, tiles: int, rows: int) -> None:
        self._positions = positions
        self.kv = KvRows(shape, rows, positions)
        self.tiles = torch.zeros(rows, tiles, dtype=shape.dtype, device=shape.device)
        self.starts = torch.zeros(rows, 1, dtype=torch.long, device=shape.device)
        """Column of the image token: tokens from there on see the image."""

    def reserve(self, rows: int) -> None:
        self.kv.reserve(rows, self._positions)
        more = self.kv.rows - self.tiles.shape[0]
        if more > 0:
            self.tiles = torch.cat([self.tiles, self.tiles.new_zeros(more, self.tiles.shape[1])])
            self.starts = torch.cat([self.starts, self.starts.new_zeros(more, 1)])

    def place(self, row: int, image: EncodedImage | None, span: ImageSpan, known: int) -> None:
        self.starts[row] = int(span.columns[0]) if len(span.columns) else 0
        if image is None:
            self.tiles[row] = 0
            # Zeros, because a row that may look nowhere is averaged over all that lies here.
            self.kv.clear(row)
        else:
            self.tiles[row] = torch.tensor(image.tiles, dtype=self.tiles.dtype, device=self.tiles.device)
            self.kv.write(row, 0, image.state)

    def copy_row(self, source: int, target: int) -> None:
        self.tiles[target] = self.tiles[source]
        self.starts[target] = self.starts[source]
        self.kv.copy_row(source, target, self._positions)

    def fork_from(self, other: Self, source: int, targets: range) -> None:
        self.tiles[targets.start : targets.stop] = other.tiles[source]
        self.starts[targets.start : targets.stop] = other.starts[source]
        self.kv.fork_from(other.kv, source, targets, self._positions)

    def mask(self, positions: torch.Tensor) -> torch.Tensor:
        """Tiles each token may look at, ``[rows, tokens, 1, tiles]``."""
        rows = positions.shape[0]
        is_after = (positions >= self.starts[:rows]).to(self.tiles.dtype)
        return (is_after[:, :, None] * self.tiles[:rows, None, :])[:, :, None, :]


class MllamaFamily:
    """Drives ``MllamaForConditionalGeneration``."""

    def __init__(self, model: Any) -> None:
        self._model = model
        text, vision = model.config.text_config, model.config.vision_config
        self._layers: int = text.num_hidden_layers
        self._cross: list[int] = list(text.cross_attention_layers)
        self._tiles: int = vision.max_num_tiles
        self._patches: int = (vision.image_size // vision.patch_size) ** 2 + 1
        if self._patches % 8 == 0:
            raise EngineError(
                f"{self._patches} patches a tile are a multiple of 8, for which transformers masks the wrong patches"
            )
        self.vocabulary: int = text.vocab_size
        self.context: int = text.max_position_embeddings
        self.kv_shape = kv_shape(model, self._layers - len(self._cross))
        self.decoder: Callable[..., Any] = model.model

    def new_image_slots(self, rows: int) -> MllamaSlots:
        shape = kv_shape(self._model, len(self._cross))
        return MllamaSlots(shape, self._tiles * self._patches, self._tiles, rows)

    def needs_image(self, span: ImageSpan, known: int) -> bool:
        """Always: every token that is yet to come looks at it."""
        return True

    def encode_images(self, images: list[ImageFacts]) -> list[EncodedImage]:
        """One pass of the vision part, then each cross-attention layer's keys and values."""
        inner = self._model.model
        tensors = {
            name: torch.cat([image.tensors[name] for image in images]).to(self._model.device)
            for name in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
        }
        seen = inner.multi_modal_projector(inner.vision_model(**tensors).last_hidden_state)
        states = seen.reshape(len(images), -1, seen.shape[-1])
        shape = self.kv_shape
        pairs = []
        for number in self._cross:
            attention = inner.language_model.layers[number].cross_attn
            keys = attention.k_proj(states).view(len(images), -1, shape.heads, shape.head_size).transpose(1, 2)
            values = attention.v_proj(states).view(len(images), -1, shape.heads, shape.head_size).transpose(1, 2)
            pairs.append(torch.stack([attention.k_norm(keys), values]))
        stacked = torch.stack(pairs)
        return [EncodedImage(state=stacked[:, :, row].clone(), tiles=image.tiles) for row, image in enumerate(images)]

    def forward(self, step: Step, rows: KvRows, images: MllamaSlots) -> torch.Tensor:
        count = step.ids.shape[0]
        positions = images.kv.columns
        cross = {number: images.kv.layer(place, count, positions) for place, number in enumerate(self._cross)}
        run = self.decoder if step.ids.shape[1] == 1 else self._model.model
        hidden = run(
            input_ids=step.ids,
            position_ids=step.positions,
            attention_mask=causal_mask(step, self.kv_shape.dtype),
            # Left out, the model would attend to the image causally and to padding tiles.
            cross_attention_mask=images.mask(step.positions),
            past_key_values=step_cache(rows, step.positions, step.columns, self._layers, cross),
            use_cache=True,
        ).last_hidden_state
        return last_logits(self._model.lm_head, hidden, step)
