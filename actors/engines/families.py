"""What differs between families of models: how images enter, which layers hold what, the step itself.

The engine's scheduling knows only ``Family``. ``MllamaFamily`` is Llama-3.2-Vision, whose images
enter through cross-attention layers; a family whose images stand among the text tokens would keep
its image features as ``EncodedImage.state`` and lay them over the embeddings in ``forward``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from actors.chat import ImageFacts
from actors.engines.image_store import EncodedImage
from actors.engines.kv import KvRows, KvShape, step_cache
from reasoning.errors import EngineError

ATTENTION = "stagebeam_rows"
"""The name under which ``attend`` is registered with transformers."""


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention; single-token steps on a CPU as two batched matrix products.

    Torch's fused CPU kernel takes 1.5 ms a layer for 64 rows of one token, 150 columns and 5 heads;
    the two products take 1.1 ms.
    """
    if query.shape[2] != 1 or query.device.type != "cpu" or attention_mask is None:
        done: tuple[torch.Tensor, torch.Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return done
    rows, heads, _, size = query.shape
    groups = key.shape[1]
    scale = size**-0.5 if scaling is None else scaling
    grouped = query.reshape(rows, groups, heads // groups, size) * scale
    weights = torch.matmul(grouped, key.transpose(-1, -2)).add_(attention_mask).softmax(-1)
    return torch.matmul(weights, value).reshape(rows, 1, heads, size), None


class ImageSlots:
    """The images of the rows of a batch, row by row as in its ``KvRows``."""

    def __init__(self, shape: KvShape, positions: int, tiles: int, rows: int) -> None:
        self._positions = positions
        self.kv = KvRows(shape, rows, positions)
        self.tiles = torch.zeros(rows, tiles, dtype=shape.dtype, device=shape.device)
        self.starts = torch.zeros(rows, 1, dtype=torch.long, device=shape.device)
        """Column of the image token: tokens from there on see the image."""

    def reserve(self, rows: int) -> None:
        """Make room for so many rows; what is there stays."""
        self.kv.reserve(rows, self._positions)
        more = self.kv.rows - self.tiles.shape[0]
        if more > 0:
            self.tiles = torch.cat([self.tiles, self.tiles.new_zeros(more, self.tiles.shape[1])])
            self.starts = torch.cat([self.starts, self.starts.new_zeros(more, 1)])

    def place(self, row: int, image: EncodedImage | None, start: int) -> None:
        """Give a row its image; None: the row sees nothing."""
        self.starts[row] = start
        if image is None:
            self.tiles[row] = 0
            # Zeros, because a row that may look nowhere is averaged over all that lies here.
            self.kv.clear(row)
        else:
            self.tiles[row] = torch.tensor(image.tiles, dtype=self.tiles.dtype, device=self.tiles.device)
            self.kv.write(row, 0, image.state)

    def copy_row(self, source: int, target: int) -> None:
        """Row ``target`` sees what row ``source`` sees."""
        self.tiles[target] = self.tiles[source]
        self.starts[target] = self.starts[source]
        self.kv.copy_row(source, target, self._positions)

    def fork_from(self, other: ImageSlots, source: int, targets: range) -> None:
        """Rows ``targets`` see what row ``source`` of another batch sees."""
        self.tiles[targets.start : targets.stop] = other.tiles[source]
        self.starts[targets.start : targets.stop] = other.starts[source]
        self.kv.fork_from(other.kv, source, targets, self._positions)

    def mask(self, positions: torch.Tensor) -> torch.Tensor:
        """Tiles each token may look at, ``[rows, tokens, 1, tiles]``."""
        rows = positions.shape[0]
        is_after = (positions >= self.starts[:rows]).to(self.tiles.dtype)
        return (is_after[:, :, None] * self.tiles[:rows, None, :])[:, :, None, :]


@dataclass(frozen=True, kw_only=True)
class Step:
    """Tokens to run: ``ids`` and ``positions`` are [rows, tokens]; a row's real tokens come first.

    ``last`` [rows] is the index of each row's last real token, where its logits are wanted.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    last: torch.Tensor
    columns: int
    """How many columns of the buffers the step may see: at least the last position + 1."""


class Family(Protocol):
    """A loaded model as the engine drives it."""

    kv_shape: KvShape
    vocabulary: int
    context: int
    """The most tokens a row may have."""

    def new_image_slots(self, rows: int) -> ImageSlots:
        """Empty slots for a batch of that many rows."""
        ...

    def encode_images(self, images: list[ImageFacts]) -> list[EncodedImage]:
        """Look at images, all in one pass."""
        ...

    def forward(self, step: Step, rows: KvRows, images: ImageSlots) -> torch.Tensor:
        """Run the step, write its keys and values; logits ``[rows, vocabulary]`` in float32."""
        ...


class MllamaFamily:
    """Llama-3.2-Vision: the image enters through cross-attention layers, text tokens never hold it."""

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
        self.kv_shape = self._shape(self._layers - len(self._cross))

    def _shape(self, layers: int) -> KvShape:
        text = self._model.config.text_config
        return KvShape(
            layers=layers,
            heads=text.num_key_value_heads,
            head_size=text.hidden_size // text.num_attention_heads,
            dtype=self._model.dtype,
            device=self._model.device,
        )

    def new_image_slots(self, rows: int) -> ImageSlots:
        return ImageSlots(self._shape(len(self._cross)), self._tiles * self._patches, self._tiles, rows)

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

    def forward(self, step: Step, rows: KvRows, images: ImageSlots) -> torch.Tensor:
        count = step.ids.shape[0]
        positions = images.kv.columns
        cross = {number: images.kv.layer(place, count, positions) for place, number in enumerate(self._cross)}
        columns = torch.arange(step.columns, device=step.ids.device)
        is_hidden = columns > step.positions[:, None, :, None]
        mask = torch.zeros(is_hidden.shape, dtype=self.kv_shape.dtype, device=step.ids.device)
        mask.masked_fill_(is_hidden, torch.finfo(self.kv_shape.dtype).min)
        hidden = self._model.model(
            input_ids=step.ids,
            position_ids=step.positions,
            # Four dimensions: taken as it is.
            attention_mask=mask,
            # Left out, the model would attend to the image causally and to padding tiles.
            cross_attention_mask=images.mask(step.positions),
            past_key_values=step_cache(rows, step.positions, step.columns, self._layers, cross),
            use_cache=True,
        ).last_hidden_state
        last = hidden[torch.arange(count, device=hidden.device), step.last]
        logits: torch.Tensor = self._model.lm_head(last)
        return logits.float()


def build_family(model: Any) -> Family:
    """The family of a loaded model; raises EngineError for one that this engine cannot drive."""
    kind = model.config.model_type
    match kind:
        case "mllama":
            AttentionInterface.register(ATTENTION, attend)
            model.set_attn_implementation({"text_config": ATTENTION})
            return MllamaFamily(model)
        case _:
            raise EngineError(f"the transformers engine drives models of type mllama, this one is {kind!r}")
