"""The default engine: a vision-language model in this process, through transformers.

``TransformersEngine`` satisfies ``reasoning.protocols.Engine``. Images are encoded once, prefixes
are computed once and shared by their continuations, and all requests share batches. It encodes and
hands over; ``worker`` does the work. Nothing of the library is patched.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Self, cast

import numpy as np
import torch
from transformers import AutoModelForImageTextToText
from transformers.utils import logging as transformers_logging

from actors.chat import ImageLayout, encode, image_token_id, is_expanded, load_processor
from actors.engines.config import TransformersEngineConfig
from actors.engines.families import build_family, compile_step
from actors.engines.image_reader import ImageReader
from actors.engines.image_store import ImageSpan
from actors.engines.jobs import NO_SPAN, Job
from actors.engines.options import option_tokens
from actors.engines.stops import StopTexts
from actors.engines.worker import CachedBytes, Worker
from reasoning.errors import EngineError, InputError
from reasoning.protocols import ChoiceReply, ChoiceRequest, ContinuationReply, ContinuationRequest
from reasoning.records import ImageRef

__all__ = ["TransformersEngine", "TransformersEngineConfig"]


class TransformersEngine:
    """Generates and scores with one model. May be called from any number of tasks and event loops."""

    def __init__(self, config: TransformersEngineConfig) -> None:
        """Loads the model; raises EngineError when it cannot."""
        self.config = config
        torch.set_num_threads(config.threads)
        self._processor = load_processor(config.model)
        model = _load_model(config)
        family = build_family(model)
        if config.compile:
            compile_step(family)
        self._context = family.context
        self._image_token = image_token_id(self._processor)
        self._is_expanded = is_expanded(self._processor)
        self._reader = ImageReader(self._processor, max_pixels=config.max_pixels, threads=config.threads)
        self._worker = Worker(
            family,
            stops=StopTexts(self._processor.tokenizer, family.vocabulary),
            eos_ids=_eos_ids(model, self._processor.tokenizer),
            read_image=self._reader.fetch,
            threads=config.threads,
            max_rows=config.max_rows,
            max_prefill_tokens=config.max_prefill_tokens,
            prefix_cache_bytes=config.prefix_cache_bytes,
            image_cache_bytes=config.image_cache_bytes,
        )
        # Also ends the thread at exit: a step must not run into the interpreter's end.
        self._finalizer = weakref.finalize(self, _close, self._worker, self._reader)

    @property
    def running_rows(self) -> int:
        """Continuations in generation right now."""
        return self._worker.running_rows

    @property
    def cached_bytes(self) -> CachedBytes:
        """What the prefix and image caches hold right now."""
        return self._worker.cached_bytes

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        """Replies in the order of the requests.

        Raises ImageError when an image cannot be used, InputError when a prompt leaves no room in the
        context, EngineError when the engine is closed or fails. Cancelling frees the rows.
        """
        layouts = await self._layouts(requests)
        jobs = [self._continuation_job(request, layout) for request, layout in zip(requests, layouts, strict=True)]
        return cast(list[ContinuationReply], await self._finished(jobs))

    async def choose(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        """Replies in the order of the requests; raises as ``generate`` does.

        Prefix and option are encoded together: the token scored is the first in which the options
        differ, after the tokens that all of them share.
        """
        layouts = await self._layouts(requests)
        jobs = [self._choice_job(request, layout) for request, layout in zip(requests, layouts, strict=True)]
        return cast(list[ChoiceReply], await self._finished(jobs))

    def close(self) -> None:
        """End the worker; unfinished requests fail with EngineError."""
        self._finalizer()

    async def aclose(self) -> None:
        """As ``close``, without keeping the event loop waiting."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def _layouts(self, requests: Sequence[ContinuationRequest | ChoiceRequest]) -> list[ImageLayout | None]:
        """How each request's image stands in its text; None where encoding does not need to know."""
        if not self._is_expanded:
            return [None] * len(requests)
        # All are asked for before the first is awaited: they are read side by side.
        asked = [None if request.image is None else self._ask(request.image) for request in requests]
        return [None if one is None else await _shared(one) for one in asked]

    def _ask(self, image: ImageRef) -> Future[ImageLayout]:
        try:
            return self._reader.layout(image)
        except RuntimeError as error:
            raise EngineError("the engine was closed") from error

    async def _finished(self, jobs: list[Job]) -> list[ContinuationReply | ChoiceReply]:
        self._worker.submit(jobs)
        try:
            return list(await asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs)))
        finally:
            # After a failure or a cancellation the others have no reader any more.
            for job in jobs:
                job.future.cancel()

    def _continuation_job(self, request: ContinuationRequest, layout: ImageLayout | None) -> Job:
        if not request.seeds:
            raise InputError("ContinuationRequest.seeds is empty; give one seed for each continuation")
        return self._job(request, self._encode(request, request.prefix, layout), (), layout)

    def _choice_job(self, request: ChoiceRequest, layout: ImageLayout | None) -> Job:
        ids, firsts = option_tokens(request, lambda text: self._encode(request, text, layout))
        return self._job(request, ids, firsts, layout)

    def _encode(
        self, request: ContinuationRequest | ChoiceRequest, prefix: str, layout: ImageLayout | None
    ) -> list[int]:
        return encode(
            self._processor,
            request.prompt,
            prefix=prefix,
            history=request.history,
            has_image=request.image is not None,
            layout=layout,
        )

    def _job(
        self,
        request: ContinuationRequest | ChoiceRequest,
        ids: list[int],
        option_ids: tuple[int, ...],
        layout: ImageLayout | None,
    ) -> Job:
        if len(ids) >= self._context:
            raise InputError(f"the prompt has {len(ids)} tokens, the model's context {self._context}: no room is left")
        array = np.asarray(ids, dtype=np.int64)
        span = NO_SPAN
        if request.image is not None and self._image_token is not None:
            columns = np.flatnonzero(array == self._image_token)
            span = ImageSpan(columns=columns, grid=layout.grid if layout is not None else (1, 1, 1))
        return Job(request=request, ids=array, option_ids=option_ids, span=span)


async def _shared(future: Future[ImageLayout]) -> ImageLayout:
    """Its result; shielded, because others may wait for the same image when this caller goes."""
    return await asyncio.shield(asyncio.wrap_future(future))


def _close(worker: Worker, reader: ImageReader) -> None:
    worker.stop()
    reader.close()


def _load_model(config: TransformersEngineConfig) -> Any:
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForImageTextToText.from_pretrained(config.model, dtype=getattr(torch, config.dtype))
        return model.to(config.device).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EngineError(f"cannot load the model {config.model} on {config.device}: {error}") from error


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a turn: the tokenizer's and those the generation settings name."""
    named = model.generation_config.eos_token_id
    several = named if isinstance(named, list) else [named]
    return frozenset(int(i) for i in [*several, tokenizer.eos_token_id] if i is not None)
