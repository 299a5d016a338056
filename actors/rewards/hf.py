"""A reward model in this process: sequence or token classification, through transformers.

Requests of all callers share batches; tokenising and the forward pass run on one thread beside the
event loop. A candidate that is too long for the model gets no score and no part of it is cut off.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from actors.rewards.batching import BatchThread
from actors.rewards.config import RewardConfig, RewardKind
from actors.rewards.encoding import Row, StepEncoder, WholeTextEncoder, free_id, stacked
from actors.rewards.joining import joined, log_odds_of
from reasoning.errors import ConfigError, EngineError, ImageError
from reasoning.ledger import Usage
from reasoning.protocols import RewardReply, RewardRequest


class HuggingFaceRewarder:
    """Scores candidates with one model. May be called from any number of tasks and event loops."""

    def __init__(self, config: RewardConfig, *, threads: int = 1) -> None:
        """Loads the model; raises EngineError when it cannot, ConfigError for a label it does not have."""
        torch.set_num_threads(threads)
        model = _RewardModel(config)
        self._batches: BatchThread[RewardRequest, RewardReply] = BatchThread(model.score, batch_size=config.batch_size)

    async def reward(self, requests: Sequence[RewardRequest]) -> list[RewardReply]:
        """Replies in the order of the requests; nan for a text that is too long.

        Raises ImageError when a picture cannot be used, EngineError when the model fails or is closed.
        """
        return await self._batches.results(requests)

    async def aclose(self) -> None:
        """End the thread; what waits fails with EngineError."""
        self._batches.close()


class _RewardModel:
    """The model with its tokenizer; used by one thread."""

    def __init__(self, config: RewardConfig) -> None:
        self._config = config
        self._model = _load_model(config)
        self._text_config = self._model.config.get_text_config()
        self._label = _label_number(config, self._model.config)
        self._pad_id: int | None = self._text_config.pad_token_id
        context = getattr(self._text_config, "max_position_embeddings", None)
        self._limit = min(config.max_tokens, context or config.max_tokens)
        self._encode = _build_encoder(config, self._model)

    def score(self, requests: Sequence[RewardRequest]) -> list[RewardReply | Exception]:
        """One forward pass for all requests that fit."""
        rows = [self._row(request) for request in requests]
        fitting = [row for row in rows if isinstance(row, Row) and row.tokens <= self._limit]
        scores = iter(self._forward(fitting))
        return [self._reply(row, scores) for row in rows]

    def _reply(self, row: Row | ImageError, scores: Any) -> RewardReply | Exception:
        if isinstance(row, ImageError):
            return row
        if row.tokens > self._limit:
            return RewardReply(score=math.nan, usage=Usage())
        return RewardReply(score=next(scores), usage=Usage(prompt_tokens=row.tokens, image_encodes=row.images))

    def _row(self, request: RewardRequest) -> Row | ImageError:
        try:
            return self._encode(request)
        except ImageError as error:
            return error

    @torch.inference_mode()
    def _forward(self, rows: Sequence[Row]) -> list[float]:
        if not rows:
            return []
        if self._pad_id is None:
            # Such models look for padding by its id too, and refuse batches without one.
            self._text_config.pad_token_id = free_id(rows)
        pad_id = int(self._text_config.pad_token_id)
        batch = {name: tensor.to(self._model.device) for name, tensor in stacked(rows, pad_id).items()}
        try:
            logits = self._model(**batch).logits.float().cpu()
        except (RuntimeError, ValueError, TypeError) as error:
            raise EngineError(f"the reward model {self._config.model} failed: {error}") from error
        if self._config.kind is RewardKind.SEQUENCE_CLASSIFICATION:
            return [log_odds_of(values, self._label) for values in logits.tolist()]
        return [
            joined([log_odds_of(logits[place, end].tolist(), self._label) for end in row.ends], self._config.join)
            for place, row in enumerate(rows)
        ]


def _load_model(config: RewardConfig) -> Any:
    transformers_logging.disable_progress_bar()
    is_whole = config.kind is RewardKind.SEQUENCE_CLASSIFICATION
    loader: Any = AutoModelForSequenceClassification if is_whole else AutoModelForTokenClassification
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # What is missing is said below, as an error.
    try:
        model, report = loader.from_pretrained(
            config.model, dtype=getattr(torch, config.dtype), output_loading_info=True
        )
        model = model.to(config.device).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EngineError(f"cannot load the reward model {config.model} on {config.device}: {error}") from error
    finally:
        transformers_logging.set_verbosity(before)
    missing = sorted(report["missing_keys"])
    if missing:
        raise EngineError(
            f"{config.model} is no trained reward model for kind {config.kind.value!r}: it has no weights for "
            f"{', '.join(missing[:3])}"
        )
    return model


def _build_encoder(config: RewardConfig, model: Any) -> Callable[[RewardRequest], Row]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model)
        takes_images = "pixel_values" in inspect.signature(model.forward).parameters
        if config.kind is RewardKind.TOKEN_CLASSIFICATION:
            return StepEncoder(tokenizer, config.step_separator)
        processor = AutoProcessor.from_pretrained(config.model, backend="pil") if takes_images else None
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise EngineError(f"cannot load the tokenizer or processor of {config.model}: {error}") from error
    return WholeTextEncoder(tokenizer, processor)


def _label_number(config: RewardConfig, model_config: Any) -> int:
    """The place of the label that is the score among the model's outputs."""
    count = int(model_config.num_labels)
    known = {str(name): int(number) for name, number in (model_config.label2id or {}).items()}
    number = count - 1 if config.label is None else known.get(str(config.label), config.label)
    if not isinstance(number, int) or not 0 <= number < count:
        raise ConfigError(
            f"RewardConfig.label {config.label!r} is none of the labels of {config.model}: "
            f"{', '.join(known) or 'none'}, or a number from 0 to {count - 1}"
        )
    return number
