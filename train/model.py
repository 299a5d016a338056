"""The model in DeepSpeed's hands, and the encoding of rows for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

from actors.chat import encode_training, image_token_id, is_expanded, load_processor
from actors.engines.families import MODEL_TYPES
from actors.images import load_image
from reasoning.errors import ConfigError, ImageError, InputError
from reasoning.records import ImageRef
from train.collate import WEIGHTS, Encoded, RowEncoder, turns_of, with_blank_image
from train.config import TrainConfig
from train.deepspeed_setup import parameter_groups


def load_engine(deepspeed: Any, config: TrainConfig, settings: dict[str, Any]) -> Any:
    """The base model as a DeepSpeed engine in training mode.

    Under ZeRO-3 each worker keeps only its part of every weight from the moment it is read.
    """
    dtype = torch.bfloat16 if settings["bf16"]["enabled"] else torch.float32
    kind = AutoConfig.from_pretrained(config.model).model_type
    if kind not in MODEL_TYPES:
        raise ConfigError(f"TrainConfig.model is of type {kind!r}; what can be trained is {', '.join(MODEL_TYPES)}")
    with _sharded_loading(settings):
        model = AutoModelForImageTextToText.from_pretrained(config.model, dtype=dtype)
    # from_pretrained leaves evaluation mode, in which gradient checkpointing does nothing.
    model.train()
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    groups = parameter_groups(model.parameters(), config.weight_decay)
    engine, *_ = deepspeed.initialize(model=model, model_parameters=groups, config=settings)
    return engine


class _ShardedLoading:
    """What transformers asks of a DeepSpeed configuration while it loads a model.

    Its own class for this cannot be made without ``accelerate``, which nothing else here needs.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.config = settings

    def is_zero3(self) -> bool:
        return bool(self.config["zero_optimization"]["stage"] == 3)


@contextmanager
def _sharded_loading(settings: dict[str, Any]) -> Iterator[None]:
    """Under ZeRO-3, ``from_pretrained`` in this block partitions each weight as it reads it."""
    # transformers keeps a weak reference: the name keeps the object alive.
    loading = _ShardedLoading(settings)
    set_hf_deepspeed_config(loading)
    try:
        yield
    finally:
        unset_hf_deepspeed_config()


def row_encoder(config: TrainConfig, processor: Any, dtype: torch.dtype) -> RowEncoder:
    """The encoder of this model's rows; ``dtype`` is the model's."""
    template = _encode(processor, {"prompt": "", "response": "x"}, Image.new("RGB", (64, 64)))
    image_token = image_token_id(processor) if is_expanded(processor) else None
    weights = {kind.value: weight for kind, weight in config.kind_weights.items()}

    def encode(row: Mapping[str, Any]) -> Encoded:
        encoded = with_blank_image(_encode(processor, row, _image(row)), template)
        if image_token is not None:
            _check_image(row["id"], encoded, image_token, config.max_tokens)
        if weights:
            encoded[WEIGHTS] = torch.full(encoded["labels"].shape, weights.get(row["kind"], 1.0))
        return encoded

    return RowEncoder(encode, max_tokens=config.max_tokens, cache_bytes=config.cache_bytes, dtype=dtype)


def pad_token(processor: Any) -> int:
    """The id that fills batches; it carries neither attention nor loss, so any id will do where none is named."""
    pad_id = processor.tokenizer.pad_token_id
    return int(processor.tokenizer.eos_token_id if pad_id is None else pad_id)


def open_processor(config: TrainConfig) -> Any:
    """The base model's processor, which the export carries on."""
    return load_processor(config.model)


def _encode(processor: Any, row: Mapping[str, Any], image: Image.Image | None) -> Encoded:
    example = encode_training(processor, row["prompt"], turns_of(row), row["response"], image)
    ids = torch.tensor([example.input_ids])
    encoded = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([example.labels])}
    return {**encoded, **example.image_inputs}


def _check_image(row_id: str, encoded: Encoded, image_token: int, max_tokens: int) -> None:
    """An image among the text tokens must be there, on every worker in every pass, and all of it."""
    if "pixel_values" not in encoded:
        raise InputError(
            f"training row {row_id!r} has no image; of the models that this can train, only Llama-3.2-Vision "
            "takes rows with and without images together. Leave such rows out"
        )
    beyond = int((encoded["input_ids"][:, max_tokens:] == image_token).sum())
    if beyond:
        raise InputError(
            f"training row {row_id!r}: {beyond} tokens of its image lie beyond max_tokens {max_tokens}; raise it"
        )


def _image(row: Mapping[str, Any]) -> Image.Image | None:
    found = row["image"]
    if not found or (found["bytes"] is None and found["uri"] is None):
        return None
    try:
        return load_image(ImageRef(data=found["bytes"], uri=None if found["bytes"] is not None else found["uri"]))
    except ImageError as error:
        raise InputError(f"training row {row['id']!r}: {error}") from error
