"""The vLLM engine on a tiny random Qwen2.5-VL; skipped where vLLM is not installed (docs/engines.md)."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_families as tiny
import torch
from engine_cases import picture

pytest.importorskip("vllm", reason="vLLM is not installed here; docs/engines.md says how")

import transformers as hf
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig, Qwen2_5_VLVisionConfig

from actors.engines.build import open_engine
from actors.engines.config import VllmEngineConfig, VllmSettings
from actors.engines.transformers_engine import TransformersEngine, TransformersEngineConfig
from reasoning.errors import EngineError, InputError
from reasoning.protocols import ChoiceRequest, ContinuationRequest, Engine, Sampling, StopReason
from reasoning.records import Question
from reasoning.search.config import SearchConfig, SelectorKind
from reasoning.search.run import run_search

GREEDY = Sampling(temperature=0, max_new_tokens=12)
WARM = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=12)
SETTINGS = VllmSettings(max_model_len=512, block_size=32, enforce_eager=True, gpu_memory_utilization=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wider than the other tiny models: vLLM's attention on CPUs takes heads of 32 and more."""
    folder = tmp_path_factory.mktemp("tiny_qwen")
    tokenizer = tiny._tokenizer("<|image_pad|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|video_pad|>"]})
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 4, 4]}
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 96}
    vision = Qwen2_5_VLVisionConfig(
        depth=2,
        hidden_size=64,
        out_hidden_size=64,
        intermediate_size=96,
        num_heads=2,
        window_size=56,
        fullatt_block_indexes=[1],
    )
    text = Qwen2_5_VLTextConfig(**tiny._text(tokenizer, rope_parameters=rope, **sizes))
    config = hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tiny._qwen_tokens(tokenizer))
    torch.manual_seed(0)
    model = hf.Qwen2_5_VLForConditionalGeneration(config)
    tiny._enliven(model, tokenizer)
    model.generation_config = hf.GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=0, do_sample=False)
    model.eval().save_pretrained(folder)
    template = tiny.TEMPLATE.replace("IMAGE", f"{tiny.FRAMES[0]}<|image_pad|>{tiny.FRAMES[1]}")
    tokenizer.chat_template = template
    hf.Qwen2_5_VLProcessor(
        image_processor=tiny._qwen_images(14),
        tokenizer=tokenizer,
        video_processor=hf.Qwen2VLVideoProcessor(),
        chat_template=template,
    ).save_pretrained(folder)
    return folder


Use = Callable[[Callable[[Engine], Awaitable[Any]]], Any]


@pytest.fixture(scope="module")
def use(folder: Path) -> Any:
    """One engine and its event loop for all tests: it takes half a minute to start."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    with asyncio.Runner() as runner:
        opened = open_engine(VllmEngineConfig(model=str(folder), settings=SETTINGS))
        engine = runner.run(opened.__aenter__())
        yield lambda work: runner.run(work(engine))
        runner.run(opened.__aexit__(None, None, None))


def ask(**fields: Any) -> ContinuationRequest:
    values: dict[str, Any] = {
        "prompt": "How many red circles are there?",
        "image": picture(),
        "prefix": "",
        "stops": (),
        "seeds": (0,),
        "sampling": GREEDY,
    }
    return ContinuationRequest(**(values | fields))


def choice(**fields: Any) -> ChoiceRequest:
    values = {"prompt": "Which?", "image": picture(), "prefix": "I choose response ", "options": ("1", "2")}
    return ChoiceRequest(**(values | fields))


def test_greedy_texts_and_choices_are_those_of_the_transformers_engine(use: Use, folder: Path) -> None:
    requests = [ask(), ask(image=picture("blue")), ask(image=None), ask(prefix="I will count. ")]
    choices = [choice(), choice(image=None)]
    with TransformersEngine(TransformersEngineConfig(model=str(folder))) as other:
        expected = asyncio.run(other.generate(requests))
        scored = asyncio.run(other.choose(choices))
    found = use(lambda engine: engine.generate(requests))
    assert [r.continuations[0].text for r in found] == [r.continuations[0].text for r in expected]
    assert [r.continuations[0].logprob for r in found] == pytest.approx(
        [r.continuations[0].logprob for r in expected], abs=0.05
    )
    assert [r.usage.prompt_tokens for r in found] == [r.usage.prompt_tokens for r in expected]
    for one, other_one in zip(use(lambda engine: engine.choose(choices)), scored, strict=True):
        assert one.logprobs == pytest.approx(other_one.logprobs, abs=0.02)


def test_a_candidate_depends_on_its_own_seed_alone(use: Use) -> None:
    [together] = use(lambda engine: engine.generate([ask(seeds=(1, 2, 3), sampling=WARM)]))
    [alone] = use(lambda engine: engine.generate([ask(seeds=(2,), sampling=WARM)]))
    assert together.continuations[1].text == alone.continuations[0].text
    assert len({c.text for c in together.continuations}) == 3


def test_stop_texts_are_kept_and_told_apart(use: Use) -> None:
    [free] = use(lambda engine: engine.generate([ask(seeds=(1,), sampling=WARM)]))
    stop = free.continuations[0].text[3:6]
    [stopped] = use(lambda engine: engine.generate([ask(seeds=(1,), sampling=WARM, stops=(stop,))]))
    assert free.continuations[0].stop is StopReason.LENGTH
    assert stopped.continuations[0].stop is StopReason.TAG
    assert free.continuations[0].text.startswith(stopped.continuations[0].text)
    assert stopped.continuations[0].text.endswith(stop)
    assert math.isfinite(stopped.continuations[0].logprob)


def test_a_prefix_that_was_computed_is_counted_as_cached(use: Use) -> None:
    # Longer than a block of the cache.
    request = ask(prompt="How many red circles are there? " * 3, image=picture("green"))
    [first], [again] = (use(lambda engine: engine.generate([request])) for _ in range(2))
    assert (first.usage.cached_tokens, first.usage.image_encodes) == (0, 1)
    assert again.usage.cached_tokens > 0
    assert again.usage.image_encodes == 0
    assert again.usage.generated_tokens == 12


def test_a_cancelled_request_is_aborted(use: Use) -> None:
    async def cancel(engine: Engine) -> int:
        long = ask(seeds=tuple(range(8)), sampling=Sampling(temperature=1.0, max_new_tokens=400))
        task = asyncio.ensure_future(engine.generate([long]))
        inner: Any = engine
        # vLLM tells nobody when a request has begun.
        while not inner._engine.get_num_unfinished_requests():  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return int(inner._engine.get_num_unfinished_requests())

    assert use(cancel) == 0


def test_a_prompt_beyond_the_context_is_refused(use: Use) -> None:
    with pytest.raises(InputError, match="maximum context length"):
        use(lambda engine: engine.generate([ask(prompt="x " * 2000)]))


def test_the_same_seeds_give_the_same_tree(use: Use) -> None:
    question = Question(id="q", question="How many?", image=picture())
    config = SearchConfig(samples=3, selector=SelectorKind.LIKELIHOOD, sampling=WARM)

    async def search(engine: Engine) -> Any:
        return await run_search(question, config, generator=engine, clock=time.monotonic)

    first, second = use(search), use(search)
    texts = [[(c.id, c.text, c.seed) for c in result.trace.candidates] for result in (first, second)]
    assert texts[0] == texts[1]


def test_a_model_that_is_not_there_is_an_engine_error(tmp_path: Path) -> None:
    async def start() -> None:
        async with open_engine(VllmEngineConfig(model=str(tmp_path / "nothing"))):
            pass

    with pytest.raises(EngineError, match="nothing"):
        asyncio.run(start())
