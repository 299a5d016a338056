"""What the engine asks of every family of models, and the parts that families share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from actors.chat import ImageFacts
from actors.engines.image_store import EncodedImage, ImageSpan
from actors.engines.kv import KvRows, KvShape
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
    the two products take 1.1 ms. In half precision the kernel stays: it sums in float32.
    """
    is_ours = query.shape[2] == 1 and query.device.type == "cpu" and query.dtype == torch.float32
    if not is_ours or attention_mask is None:
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


@dataclass(frozen=True, kw_only=True)
class Step:
    """Tokens to run: ``ids`` and ``positions`` are [rows, tokens]; a row's real tokens come first.

    ``positions`` are the columns of the buffers that the tokens take. ``last`` [rows] is the index of
    each row's last real token, where its logits are wanted.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    last: torch.Tensor
    columns: int
    """How many columns of the buffers the step may see: at least the last position + 1."""


class ImageSlots(Protocol):
    """What a batch holds of its rows' images, row by row as in its ``KvRows``."""

    def reserve(self, rows: int) -> None:
        """Make room for so many rows; what is there stays."""
        ...

    def place(self, row: int, image: EncodedImage | None, span: ImageSpan, known: int) -> None:
        """Give a row its image before its prompt is run from column ``known`` on; None: the step needs none."""
        ...

    def copy_row(self, source: int, target: int) -> None:
        """Row ``target`` sees what row ``source`` sees."""
        ...

    def fork_from(self, other: Self, source: int, targets: range) -> None:
        """Rows ``targets`` see what row ``source`` of another batch sees."""
        ...


S = TypeVar("S", bound=ImageSlots)


class Family(Protocol[S]):
    """A loaded model as the engine drives it; the engine's scheduling knows only this.

    An image enters in one of two ways: through layers of its own that every token looks at
    (``MllamaFamily``), or as tokens among the text's whose embeddings are its features
    (``InlineFamily``).
    """

    kv_shape: KvShape
    vocabulary: int
    context: int
    """The most tokens a row may have."""
    decoder: Callable[..., Any]
    """What a step of one token a row calls: the model's own part, or that part compiled."""

    def new_image_slots(self, rows: int) -> S:
        """Empty slots for a batch of that many rows."""
        ...

    def needs_image(self, span: ImageSpan, known: int) -> bool:
        """Whether a prompt of which the first ``known`` tokens are in the buffers still needs its encoded image."""
        ...

    def encode_images(self, images: list[ImageFacts]) -> list[EncodedImage]:
        """Look at images, all in one pass where their shapes allow it."""
        ...

    def forward(self, step: Step, rows: KvRows, images: S) -> torch.Tensor:
        """Run the step, write its keys and values; logits ``[rows, vocabulary]`` in float32."""
        ...


def use_attention(model: Any) -> None:
    """Let the text part of a model attend through ``attend``."""
    AttentionInterface.register(ATTENTION, attend)
    model.set_attn_implementation({"text_config": ATTENTION})


def causal_mask(step: Step, dtype: torch.dtype) -> torch.Tensor:
    """What is added to attention weights, ``[rows, 1, tokens, columns]``: a token sees the columns up to its own.

    Four dimensions: transformers takes such a mask as it is.
    """
    columns = torch.arange(step.columns, device=step.ids.device)
    is_hidden = columns > step.positions[:, None, :, None]
    mask = torch.zeros(is_hidden.shape, dtype=dtype, device=step.ids.device)
    return mask.masked_fill_(is_hidden, torch.finfo(dtype).min)


def last_logits(head: torch.nn.Module, hidden: torch.Tensor, step: Step) -> torch.Tensor:
    """Logits ``[rows, vocabulary]`` in float32 after each row's last token."""
    last = hidden[torch.arange(hidden.shape[0], device=hidden.device), step.last]
    logits: torch.Tensor = head(last)
    return logits.float()


def kv_shape(model: Any, layers: int) -> KvShape:
    """What a token leaves behind in ``layers`` layers of the model's text part."""
    text = model.config.get_text_config()
    return KvShape(
        layers=layers,
        heads=text.num_key_value_heads,
        head_size=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        dtype=model.dtype,
        device=model.device,
    )


def require_full_attention(model: Any) -> None:
    """Raises EngineError for text layers other than attention over all earlier tokens."""
    text = model.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    window = getattr(text, "sliding_window", None)
    if kinds - {"full_attention"} or (not kinds and window):
        raise EngineError(
            f"the text part of this {model.config.model_type!r} model is {text.model_type!r} with "
            f"{', '.join(sorted(kinds)) or f'a sliding window of {window} tokens'}; the transformers engine drives "
            "layers of full attention only. The vllm and openai engines have no such limit"
        )
