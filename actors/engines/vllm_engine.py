"""The engine that runs a model in this process through vLLM, for models that vLLM has.

``VllmEngine`` satisfies ``reasoning.protocols.Engine``. Prefixes are not forked by hand: a longer
prompt finds what was computed for the shorter one in vLLM's prefix cache, image included. vLLM is
no dependency of this project; docs/engines.md says how it is installed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, cast

from actors.chat import encode, image_token_id, load_processor
from actors.engines.config import VllmEngineConfig
from actors.engines.options import option_tokens
from actors.engines.together import together
from actors.images import load_image
from reasoning.errors import EngineError, InputError
from reasoning.ledger import Usage
from reasoning.protocols import (
    ChoiceReply,
    ChoiceRequest,
    Continuation,
    ContinuationReply,
    ContinuationRequest,
    StopReason,
)

_STOPS = {"length": StopReason.LENGTH, "abort": StopReason.ABORTED, "error": StopReason.ABORTED}


class VllmEngine:
    """Generates and scores with one model. Use it on one event loop; ``aclose`` it when done.

    Each seed is a request of its own, so that a candidate depends on its own seed alone; vLLM computes
    what they share once. At temperature 0 one request is made and stands for all seeds.
    """

    def __init__(self, config: VllmEngineConfig) -> None:
        """Starts vLLM and loads the model; raises EngineError when vLLM is not there or cannot load it."""
        self.config = config
        # First: what it raises must not leave vLLM's processes behind.
        self._processor = load_processor(config.model)
        self._image_token = image_token_id(self._processor)
        self._engine = _start(config)
        self._numbers = itertools.count()

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        """Replies in the order of the requests.

        Raises ImageError when an image cannot be used, InputError when vLLM refuses a request (a prompt
        beyond the context), EngineError when it is lost. Cancelling frees what was in work.
        """
        return await together([self._continue(request) for request in requests])

    async def choose(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        """Replies in the order of the requests; raises as ``generate`` does."""
        return await together([self._choose(request) for request in requests])

    async def aclose(self) -> None:
        """End vLLM and its processes."""
        # On the loop, which then has no turn to find vLLM gone; its ``__del__`` shuts down once more.
        self._engine.shutdown()
        self._engine = None

    async def _continue(self, request: ContinuationRequest) -> ContinuationReply:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if not request.seeds:
            raise InputError("ContinuationRequest.seeds is empty; give one seed for each continuation")
        prompt = await self._prompt(request, self._encode(request, request.prefix))
        is_greedy = request.sampling.temperature == 0
        outputs = await together(
            [
                self._run(
                    prompt,
                    SamplingParams(
                        temperature=request.sampling.temperature,
                        top_p=request.sampling.top_p,
                        max_tokens=request.sampling.max_new_tokens,
                        seed=seed,
                        stop=list(request.stops),
                        include_stop_str_in_output=bool(request.stops),
                        # The drawn token's own; before temperature and top_p.
                        logprobs=0,
                        output_kind=RequestOutputKind.FINAL_ONLY,
                    ),
                )
                for seed in (request.seeds[:1] if is_greedy else request.seeds)
            ]
        )
        said = [output.outputs[0] for output in outputs]
        usage = self._usage(request, outputs, sum(len(one.token_ids) for one in said))
        if is_greedy:
            said *= len(request.seeds)
        continuations = tuple(
            Continuation(
                text=str(one.text),
                stop=_stop_reason(one, request.stops),
                tokens=len(one.token_ids),
                logprob=float(one.cumulative_logprob),
                seed=seed,
            )
            for one, seed in zip(said, request.seeds, strict=True)
        )
        return ContinuationReply(continuations=continuations, usage=usage)

    async def _choose(self, request: ChoiceRequest) -> ChoiceReply:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        ids, firsts = option_tokens(request, lambda text: self._encode(request, text))
        params = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            logprob_token_ids=list(firsts),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._run(await self._prompt(request, ids), params)
        found = output.outputs[0].logprobs[0]
        logprobs = tuple(float(found[token].logprob) for token in firsts)
        return ChoiceReply(logprobs=logprobs, usage=self._usage(request, [output], 0))

    def _encode(self, request: ContinuationRequest | ChoiceRequest, prefix: str) -> list[int]:
        """With one token for the image: vLLM puts in as many as it has features."""
        has_image = request.image is not None
        return encode(self._processor, request.prompt, prefix=prefix, history=request.history, has_image=has_image)

    async def _prompt(self, request: ContinuationRequest | ChoiceRequest, ids: list[int]) -> dict[str, Any]:
        if request.image is None:
            return {"prompt_token_ids": ids}
        image = await asyncio.to_thread(load_image, request.image, max_pixels=self.config.settings.max_pixels)
        # Its own name for the image, so that vLLM's caches tell images apart as the rest of the system does.
        return {
            "prompt_token_ids": ids,
            "multi_modal_data": {"image": image},
            "multi_modal_uuids": {"image": [request.image.key]},
        }

    async def _run(self, prompt: dict[str, Any], params: Any) -> Any:
        """The finished request. A cancelled one is aborted by vLLM's own generator."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        if self._engine is None:
            raise EngineError("the engine was closed")
        name = str(next(self._numbers))
        try:
            outputs = [output async for output in self._engine.generate(prompt, params, request_id=name)]
        except (EngineDeadError, EngineGenerateError) as error:
            raise EngineError(f"vLLM was lost: {error.__cause__ or error}") from error
        except (VLLMClientError, ValueError) as error:
            raise InputError(f"vLLM refused a request: {error}") from error
        if not outputs:
            raise EngineError("vLLM ended a request without a result")
        return outputs[-1]

    def _usage(self, request: ContinuationRequest | ChoiceRequest, outputs: Sequence[Any], generated: int) -> Usage:
        """What the requests for one prompt cost: the prompt counts once, and what was computed twice counts twice."""
        lengths = [len(output.prompt_token_ids) for output in outputs]
        computed = sum(
            length - int(output.num_cached_tokens or 0) for length, output in zip(lengths, outputs, strict=True)
        )
        prompt = max(lengths[0], computed)
        return Usage(
            prompt_tokens=prompt,
            cached_tokens=prompt - computed,
            generated_tokens=generated,
            image_encodes=int(request.image is not None and self._image_was_computed(outputs[0])),
        )

    def _image_was_computed(self, output: Any) -> bool:
        """Whether a part of the image's tokens did not come from the cache."""
        ids = list(output.prompt_token_ids)
        if self._image_token not in ids:
            return True
        last = len(ids) - 1 - ids[::-1].index(self._image_token)
        return int(output.num_cached_tokens or 0) <= last


def _stop_reason(output: Any, stops: Sequence[str]) -> StopReason:
    if output.finish_reason == "stop":
        return StopReason.TAG if output.stop_reason in stops else StopReason.EOS
    return _STOPS.get(cast("str", output.finish_reason), StopReason.ABORTED)


def _start(config: VllmEngineConfig) -> Any:
    try:
        from vllm import AsyncEngineArgs, SamplingParams
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise EngineError(
            f"engine 'vllm' needs vLLM, which cannot be imported ({error}); install stagebeam[vllm] in an "
            "environment of its own, or take engine transformers or openai"
        ) from error
    if not hasattr(SamplingParams, "logprob_token_ids"):
        raise EngineError("this vLLM cannot score given tokens (logprob_token_ids); install stagebeam[vllm] anew")
    settings = config.settings
    given = {
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "block_size": settings.block_size,
    }
    try:
        return AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=config.model,
                dtype=config.dtype,
                gpu_memory_utilization=settings.gpu_memory_utilization,
                tensor_parallel_size=settings.tensor_parallel_size,
                enforce_eager=settings.enforce_eager,
                enable_prefix_caching=True,
                limit_mm_per_prompt={"image": 1},
                disable_log_stats=True,
                **{name: value for name, value in given.items() if value is not None},
            )
        )
    except Exception as error:  # vLLM ends a failed start in whatever its parts raise
        raise EngineError(f"vLLM cannot run the model {config.model}: {type(error).__name__}: {error}") from error
