"""From a question to the token ids that a model is given, in one place for serving and training.

The engine continues an assistant's turn that was begun; training puts loss on the rest of it. Both
go through ``_ids`` below, so that a model is asked in exactly the tokens in which it was taught.
Text from outside cannot write control tokens: they are spelled apart before anything is encoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor

from actors.processors import processor_of_parts
from reasoning.errors import EngineError
from reasoning.records import Turn

IGNORED_LABEL = -100
"""Positions with this label carry no loss."""
_IMAGE_TOKENS = ("image_token", "fake_image_token", "global_image_tag", "global_image_token")
_TEXT_FACTS = ("num_tiles", "rows", "cols")
"""What image processors tell of an image that only the text depends on."""


@dataclass(frozen=True, kw_only=True)
class TrainingExample:
    """One conversation, ready to be padded and stacked."""

    input_ids: list[int]
    labels: list[int]
    """``IGNORED_LABEL`` up to the response; the response's tokens and the end-of-turn token after it."""
    image_inputs: dict[str, torch.Tensor]
    """What the model takes beside text, joined with other examples along the first dimension; empty
    without an image. For Mllama ``pixel_values`` [1, 1, tiles, 3, height, width], ``aspect_ratio_ids``
    [1, 1], ``aspect_ratio_mask`` [1, 1, tiles] and ``cross_attention_mask`` [1, tokens, 1, tiles]."""


@dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """How one image stands among the text tokens."""

    ids: tuple[int, ...]
    """What takes the place of the image token that the chat template writes."""
    grid: tuple[int, int, int] = (1, 1, 1)
    """Qwen: patches in time, height and width."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the processor makes of one image."""

    tensors: dict[str, torch.Tensor]
    """The vision part's input; images are joined along the first dimension."""
    tiles: tuple[int, ...]
    """Mllama: 1 for each tile in use, 0 for padding. Others: empty."""
    layout: ImageLayout


def load_processor(model_dir: Path | str) -> Any:
    """The model's processor, with the image processor that works alike on every machine (Pillow, numpy).

    Raises EngineError when the folder holds none, or one without chat template.
    """
    try:
        processor = processor_of_parts(model_dir) or AutoProcessor.from_pretrained(model_dir, backend="pil")
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise EngineError(f"cannot load the processor of {model_dir}: {error}") from error
    if getattr(processor, "chat_template", None) is None:
        raise EngineError(f"{model_dir} has no chat template (chat_template.jinja); an instruction-tuned model has one")
    return processor


def conversation(prompt: str, history: Sequence[Turn] = (), has_image: bool = False) -> list[dict[str, Any]]:
    """Messages as chat templates take them; the image stands before the first question."""
    messages: list[dict[str, Any]] = []
    for turn in history:
        messages.append(_message("user", turn.question))
        messages.append(_message("assistant", turn.answer))
    messages.append(_message("user", prompt))
    if has_image:
        messages[0]["content"].insert(0, {"type": "image"})
    return messages


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


@dataclass(frozen=True)
class _Facts:
    """What encoding needs to know of a processor, found out once."""

    control: re.Pattern[str] | None
    bos: str | None
    image_token_id: int | None
    turn_end: str
    eos_id: int


@lru_cache(maxsize=8)
def _facts(processor: Any) -> _Facts:
    tokenizer = processor.tokenizer
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    # LLaVA's and Idefics' image tokens are not special in every tokenizer that was published.
    added |= {str(t) for t in (getattr(processor, name, None) for name in _IMAGE_TOKENS) if t}
    specials = sorted((t for t in added | set(tokenizer.all_special_tokens) if len(t) > 1), key=len, reverse=True)
    control = re.compile("|".join(map(re.escape, specials))) if specials else None
    if tokenizer.eos_token_id is None:
        raise EngineError("the tokenizer names no end-of-sequence token, so no answer would ever end")
    marker = "Xq7 marker Xq7"
    closed = processor.apply_chat_template([*conversation("q"), _message("assistant", marker)], tokenize=False)
    return _Facts(
        control=control,
        bos=tokenizer.bos_token,
        image_token_id=getattr(processor, "image_token_id", None),
        turn_end=str(closed).rpartition(marker)[2],
        eos_id=int(tokenizer.eos_token_id),
    )


def defuse(processor: Any, text: str) -> str:
    """``text`` with every control token spelled apart (``<|eot_id|>`` becomes ``< |eot_id|>``)."""
    control = _facts(processor).control
    return control.sub(lambda m: m.group()[0] + " " + m.group()[1:], text) if control else text


@lru_cache(maxsize=4096)
def _opening(processor: Any, prompt: str, history: tuple[Turn, ...], has_image: bool) -> str:
    """Everything up to the first character of the assistant's turn."""
    safe = tuple(Turn(question=defuse(processor, t.question), answer=defuse(processor, t.answer)) for t in history)
    messages = conversation(defuse(processor, prompt), safe, has_image)
    return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _ids(processor: Any, text: str) -> list[int]:
    """Token ids of a rendered conversation with exactly one BOS."""
    bos = _facts(processor).bos
    is_complete = bos is not None and text.startswith(bos)
    ids: list[int] = processor.tokenizer(text, add_special_tokens=not is_complete)["input_ids"]
    return ids


def encode(
    processor: Any,
    prompt: str,
    *,
    prefix: str = "",
    history: Sequence[Turn] = (),
    has_image: bool = False,
    layout: ImageLayout | None = None,
) -> list[int]:
    """Token ids of the conversation with the assistant's turn begun by ``prefix``.

    ``prefix`` is encoded together with what stands before it: the ids are those of the whole text.
    With a ``layout`` the image token is replaced by its ids, as the processor does with its text:
    control tokens part what stands around them, so both give the same ids.
    """
    opening = _opening(processor, prompt, tuple(history), has_image)
    ids = _ids(processor, opening + defuse(processor, prefix))
    return ids if layout is None else _with_image(processor, ids, layout)


def _with_image(processor: Any, ids: list[int], layout: ImageLayout) -> list[int]:
    token = image_token_id(processor)
    if token is None or token not in ids:
        raise EngineError("the chat template writes no image token for an image")
    start = ids.index(token)
    return [*ids[:start], *layout.ids, *ids[start + 1 :]]


def image_facts(processor: Any, image: Image.Image) -> ImageFacts:
    """The tensors the vision part of the model takes for one RGB image, and how it stands in the text."""
    # Idefics3 and SmolVLM write into the text how an image was cut.
    wishes = {"return_row_col_info": True} if hasattr(processor.image_processor, "return_row_col_info") else {}
    made = processor.image_processor(images=[[image]], return_tensors="pt", **wishes)
    text = processor.replace_image_token(made, 0)
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    grid = made["image_grid_thw"][0].tolist() if "image_grid_thw" in made else (1, 1, 1)
    tensors = {
        name: value for name, value in made.items() if isinstance(value, torch.Tensor) and name not in _TEXT_FACTS
    }
    mask = tensors.get("aspect_ratio_mask")
    tiles = tuple(int(v) for v in mask.flatten().tolist()) if mask is not None else ()
    return ImageFacts(tensors=tensors, tiles=tiles, layout=ImageLayout(ids=tuple(ids), grid=tuple(grid)))


def is_expanded(processor: Any) -> bool:
    """Whether the tokens that stand for an image depend on the image, so that it is read before encoding."""
    return "aspect_ratio_mask" not in processor.image_processor.model_input_names


def image_token_id(processor: Any) -> int | None:
    """The id that stands for the image among text tokens."""
    return _facts(processor).image_token_id


def cross_attention_mask(processor: Any, ids: Sequence[int], tiles: Sequence[int]) -> torch.Tensor:
    """Which tiles each token may look at, ``[tokens, 1, tiles]``: those in use, from the image token on."""
    mask = torch.zeros(len(ids), 1, len(tiles), dtype=torch.long)
    token = image_token_id(processor)
    if token is None or token not in ids:
        raise EngineError("the chat template writes no image token for an image")
    start = list(ids).index(token)
    mask[start:, 0] = torch.tensor(tiles, dtype=torch.long)
    return mask


def encode_training(
    processor: Any, prompt: str, history: Sequence[Turn], response: str, image: Image.Image | None
) -> TrainingExample:
    """The conversation with its response, labels on the response and its end-of-turn token alone."""
    facts = _facts(processor)
    found = None if image is None else image_facts(processor, image)
    opening = _opening(processor, prompt, tuple(history), image is not None)
    before = _ids(processor, opening)
    whole = _ids(processor, opening + defuse(processor, response) + facts.turn_end)
    start = common_length(before, whole)
    # Some templates write more after the end-of-turn token (a line break); a model never has to say that.
    ends = [i for i in range(start, len(whole)) if whole[i] == facts.eos_id]
    whole = whole[: ends[0] + 1] if ends else [*whole, facts.eos_id]
    labels = [IGNORED_LABEL] * start + whole[start:]
    inputs: dict[str, torch.Tensor] = {}
    if found is not None:
        whole = _with_image(processor, whole, found.layout)
        labels = [IGNORED_LABEL] * (len(whole) - len(labels)) + labels
        inputs = dict(found.tensors)
        if found.tiles:
            inputs["cross_attention_mask"] = cross_attention_mask(processor, whole, found.tiles)[None]
        if "image_grid_thw" in inputs:
            # Qwen places tokens by it: without it every token would be text.
            inputs["mm_token_type_ids"] = torch.tensor([[int(i == facts.image_token_id) for i in whole]])
    return TrainingExample(input_ids=whole, labels=labels, image_inputs=inputs)


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two sequences have in common from the start."""
    for position, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return position
    return min(len(first), len(second))
