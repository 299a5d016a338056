"""Models in which an image stands among the text tokens: its features take the place of their embeddings.

LLaVA, LLaVA-NeXT, Idefics3 and SmolVLM as they are; the Qwen models add positions of their own
(``qwen``). The text part is driven by itself: the outer model would read pixels anew, or keep
positions from one call to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any, Self

import torch

from actors.chat import ImageFacts
from actors.engines.families.base import Step, causal_mask, kv_shape, last_logits, require_full_attention
from actors.engines.image_store import EncodedImage, ImageSpan
from actors.engines.kv import KvRows, step_cache
from actors.engines.prefix_tree import Ids
from reasoning.errors import EngineError


class InlineSlots:
    """Features that wait to be laid over the embeddings of the next step.

    Rows that generate are past their image: for them there is nothing to hold.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[torch.Tensor, Ids]] = {}

    def reserve(self, rows: int) -> None:
        """Nothing is held by row."""

    def place(self, row: int, image: EncodedImage | None, span: ImageSpan, known: int) -> None:
        self._waiting.pop(row, None)
        ahead = span.columns[span.columns >= known]
        if not len(ahead):
            return
        if image is None:
            raise EngineError(f"{len(ahead)} image tokens are to be run and their image is not there")
        if image.state.shape[1] != len(span.columns):
            raise EngineError(
                f"the processor writes {len(span.columns)} tokens for an image, the model makes "
                f"{image.state.shape[1]} features of it; processor and model do not fit each other"
            )
        self._waiting[row] = (image.state[:, -len(ahead) :], ahead - known)

    def copy_row(self, source: int, target: int) -> None:
        """Nothing is held by row."""

    def fork_from(self, other: Self, source: int, targets: range) -> None:
        """Nothing is held by row."""

    def positions(self, columns: torch.Tensor) -> torch.Tensor:
        """What the model calls the positions of the tokens in ``columns`` [rows, tokens]: the columns themselves."""
        return columns

    def lay(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]] | None:
        """Write the waiting features over ``embeddings`` [rows, tokens, size] and let go of them.

        Returns where they lie, [rows, tokens], and what deeper layers add there, a tensor
        [places, size] for each, places in reading order; None when no row has an image ahead.
        """
        if not self._waiting:
            return None
        places = torch.zeros(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        deeper = []
        for row, (state, tokens) in sorted(self._waiting.items()):
            where = torch.from_numpy(tokens).to(embeddings.device)
            embeddings[row, where] = state[0]
            places[row, where] = True
            deeper.append(state[1:])
        self._waiting.clear()
        return places, list(torch.cat(deeper, dim=1))


class InlineFamily:
    """Drives the text part of a model whose ``get_image_features`` gives what stands at the image tokens."""

    def __init__(self, model: Any) -> None:
        require_full_attention(model)
        inner = model.model
        self._model = model
        self._text = inner.language_model if hasattr(inner, "language_model") else inner.text_model
        self._embed: torch.nn.Module = self._text.get_input_embeddings()
        self._head: torch.nn.Module = model.get_output_embeddings()
        text = model.config.get_text_config()
        self._layers: int = text.num_hidden_layers
        self.vocabulary: int = text.vocab_size
        self.context: int = text.max_position_embeddings
        self.kv_shape = kv_shape(model, self._layers)
        self.decoder: Callable[..., Any] = self._text

    def new_image_slots(self, rows: int) -> InlineSlots:
        return InlineSlots()

    def needs_image(self, span: ImageSpan, known: int) -> bool:
        """Only while one of its tokens is yet to be run."""
        return len(span.columns) > 0 and int(span.columns[-1]) >= known

    def encode_images(self, images: list[ImageFacts]) -> list[EncodedImage]:
        """Features and, for models that have them, what deeper layers add: [1 + layers, tokens, size] an image."""
        states: list[torch.Tensor] = []
        for _, run in groupby(images, key=_shapes):
            alike = list(run)
            tensors = {
                name: torch.cat([image.tensors[name] for image in alike]).to(self._model.device)
                for name in alike[0].tensors
            }
            tensors = {n: t.to(self._model.dtype) if t.is_floating_point() else t for n, t in tensors.items()}
            seen = self._model.model.get_image_features(**tensors, return_dict=True)
            deeper = getattr(seen, "deepstack_features", None) or []
            states += [torch.stack(parts) for parts in zip(seen.pooler_output, *deeper, strict=True)]
        return [EncodedImage(state=state.to(self._model.dtype), tiles=()) for state in states]

    def forward(self, step: Step, rows: KvRows, images: InlineSlots) -> torch.Tensor:
        embeddings = self._embed(step.ids)
        laid = images.lay(embeddings)
        more = {} if laid is None or not laid[1] else {"visual_pos_masks": laid[0], "deepstack_visual_embeds": laid[1]}
        run = self.decoder if step.ids.shape[1] == 1 else self._text
        hidden = run(
            inputs_embeds=embeddings,
            position_ids=images.positions(step.positions),
            attention_mask=causal_mask(step, self.kv_shape.dtype),
            past_key_values=step_cache(rows, step.positions, step.columns, self._layers, {}),
            use_cache=True,
            **more,
        ).last_hidden_state
        return last_logits(self._head, hidden, step)


def _shapes(image: ImageFacts) -> list[torch.Size]:
    """Images with equal ones can be joined along their tensors' first dimension."""
    return [tensor.shape[1:] for tensor in image.tensors.values()]
