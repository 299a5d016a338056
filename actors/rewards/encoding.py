"""From a candidate to the tensors that a reward model reads, one row each, and rows to a padded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from actors.images import load_image
from actors.rewards.texts import RewardText, conversation, reward_text, spell_apart
from reasoning.protocols import RewardRequest

IDS = "input_ids"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One text for the model; every tensor begins with a dimension of 1, or of its pictures."""

    tensors: Mapping[str, torch.Tensor]
    ends: tuple[int, ...] = ()
    """For token classification: the positions at which the text's steps are scored."""
    images: int = 0

    @property
    def tokens(self) -> int:
        return int(self.tensors[IDS].shape[1])


class WholeTextEncoder:
    """For sequence classification: the conversation by the model's chat template, the picture by its processor.

    Without a template question and answer are a pair of texts, as encoder models are trained.
    """

    def __init__(self, tokenizer: Any, processor: Any | None) -> None:
        self._tokenizer = tokenizer
        self._processor = processor
        self._control = control_tokens(tokenizer)

    def __call__(self, request: RewardRequest) -> Row:
        """Raises ImageError for a picture that cannot be used."""
        text = spell_apart(reward_text(request), self._control)
        image = request.question.image
        if self._processor is not None and image is not None:
            template = self._processor.apply_chat_template(conversation(text, has_image=True), tokenize=False)
            rendered = _without_bos(self._tokenizer, template)
            made = self._processor(text=[rendered], images=[[load_image(image)]], return_tensors="pt")
            return Row(tensors=dict(made), images=1)
        if getattr(self._tokenizer, "chat_template", None) is None:
            return Row(tensors=dict(self._tokenizer([text.question], [text.answer], return_tensors="pt")))
        ids = encode_rendered(self._tokenizer, self._tokenizer.apply_chat_template(conversation(text), tokenize=False))
        return row_of(ids)


class StepEncoder:
    """For token classification: each step with the separator behind it, whose last token is where it is scored."""

    def __init__(self, tokenizer: Any, separator: str) -> None:
        self._tokenizer = tokenizer
        self._separator: list[int] = tokenizer(separator, add_special_tokens=False)[IDS]
        self._control = control_tokens(tokenizer)

    def __call__(self, request: RewardRequest) -> Row:
        text = spell_apart(reward_text(request), self._control)
        ids = self._opening(text)
        for step in text.prior:
            ids += self._step(step)
        ends: list[int] = []
        for step in text.steps:
            ids += self._step(step)
            ends.append(len(ids) - 1)
        return row_of(ids, tuple(ends))

    def _opening(self, text: RewardText) -> list[int]:
        if getattr(self._tokenizer, "chat_template", None) is None:
            return list(self._tokenizer(text.question + "\n")[IDS])
        asked = conversation(text)[:1]
        opening = self._tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        return encode_rendered(self._tokenizer, opening)

    def _step(self, step: str) -> list[int]:
        return [*self._tokenizer(step, add_special_tokens=False)[IDS], *self._separator]


def encode_rendered(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a rendered conversation with one BOS at most."""
    is_complete = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
    return list(tokenizer(text, add_special_tokens=not is_complete)[IDS])


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """What only a template may write."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return tuple(sorted(added | set(tokenizer.all_special_tokens)))


def row_of(ids: Sequence[int], ends: tuple[int, ...] = ()) -> Row:
    """A row of plain token ids."""
    tensor = torch.tensor([list(ids)], dtype=torch.long)
    return Row(tensors={IDS: tensor, "attention_mask": torch.ones_like(tensor)}, ends=ends)


def stacked(rows: Sequence[Row], pad_id: int) -> dict[str, torch.Tensor]:
    """One batch: what lies along the tokens is padded on the right, pictures are laid behind one another."""
    longest = max(row.tokens for row in rows)
    batch: dict[str, torch.Tensor] = {}
    for name in dict.fromkeys(name for row in rows for name in row.tensors):
        fill = pad_id if name == IDS else 0
        if all(row.tensors[name].shape == (1, row.tokens) for row in rows if name in row.tensors):
            # A row without it, such as a text without a picture among some with one, has zeros.
            along = [row.tensors.get(name, torch.zeros_like(row.tensors[IDS])) for row in rows]
            parts = [torch.nn.functional.pad(one, (0, longest - one.shape[1]), value=fill) for one in along]
        else:
            parts = [row.tensors[name] for row in rows if name in row.tensors]
        batch[name] = torch.cat(parts)
    return batch


def free_id(rows: Sequence[Row]) -> int:
    """The smallest token id that ends no row: a model that looks for the last token that is no padding finds it."""
    last = {int(row.tensors[IDS][0, -1]) for row in rows}
    return next(number for number in range(len(rows) + 1) if number not in last)


def _without_bos(tokenizer: Any, text: str) -> str:
    """Processors add a BOS of their own."""
    bos = tokenizer.bos_token
    return text.removeprefix(bos) if bos else text
