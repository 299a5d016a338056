"""Every family of models against its own ``generate``: same tokens, whatever is cached or in the batch."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from engine_cases import EngineFactory, picture
from tiny_families import KINDS, build_tiny
from torch._dynamo.utils import counters
from transformers import AutoModelForImageTextToText, Idefics3Processor

from actors.chat import conversation, encode, image_facts, load_processor
from actors.engines.families import Step, build_family, compile_step
from actors.engines.families.qwen import QwenSlots
from actors.engines.image_store import ImageSpan
from actors.engines.kv import KvRows
from actors.engines.tiny import build_tiny_mllama
from actors.engines.transformers_engine import TransformersEngine, TransformersEngineConfig
from actors.images import load_image
from reasoning.errors import EngineError, ImageError
from reasoning.ledger import Usage
from reasoning.protocols import ChoiceRequest, ContinuationReply, ContinuationRequest, Sampling
from reasoning.records import ImageRef, Turn

GREEDY = Sampling(temperature=0, max_new_tokens=12)
WARM = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=12)
QUESTION = "How many red circles are there?"
WIDE = (60, 40)


class Case(NamedTuple):
    kind: str
    folder: Path
    model: Any
    processor: Any


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    build_tiny(request.param, folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return Case(request.param, folder, model, load_processor(folder))


@pytest.fixture
def make(case: Case) -> Iterator[EngineFactory]:
    """Engines with the case's model that begin with nothing cached."""
    made: list[TransformersEngine] = []

    def build(**settings: Any) -> TransformersEngine:
        made.append(TransformersEngine(TransformersEngineConfig(model=str(case.folder), **settings)))
        return made[-1]

    yield build
    for engine in made:
        engine.close()


def ask(prompt: str = QUESTION, **fields: Any) -> ContinuationRequest:
    values: dict[str, Any] = {"image": picture("red", WIDE), "prefix": "", "stops": (), "seeds": (0,)}
    return ContinuationRequest(prompt=prompt, **(values | {"sampling": GREEDY} | fields))


def choice(prompt: str = "Judge", **fields: Any) -> ChoiceRequest:
    values: dict[str, Any] = {"image": picture("red", WIDE), "prefix": "I choose ", "options": ("1", "2")}
    return ChoiceRequest(prompt=prompt, **(values | fields))


def generate(engine: TransformersEngine, *requests: ContinuationRequest) -> list[ContinuationReply]:
    return asyncio.run(engine.generate(requests))


def texts(engine: TransformersEngine, *requests: ContinuationRequest) -> list[list[str]]:
    return [[c.text for c in reply.continuations] for reply in generate(engine, *requests)]


def plain_inputs(case: Case, prompt: str, image: ImageRef | None, prefix: str = "") -> dict[str, torch.Tensor]:
    """What the model's own processor makes of a conversation; for Qwen what its documentation says it makes."""
    messages = conversation(prompt, has_image=image is not None)
    text = case.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + prefix
    pictures = None if image is None else [load_image(image)]
    is_complete = text.startswith(case.processor.tokenizer.bos_token)
    if case.kind.startswith("qwen"):
        made: dict[str, torch.Tensor] = {}
        if pictures:
            made = dict(case.processor.image_processor(images=pictures, return_tensors="pt"))
            count = int(made["image_grid_thw"].prod()) // 4
            text = text.replace("<|image_pad|>", "<|image_pad|>" * count)
        ids = case.processor.tokenizer(text, return_tensors="pt", add_special_tokens=not is_complete)
        types = (ids["input_ids"] == case.model.config.image_token_id).int()
        return {**ids, **made, "mm_token_type_ids": types}
    real = case.processor
    if case.kind == "smolvlm":
        # SmolVLM writes an image as Idefics3 does, whose processor needs no torchvision.
        real = Idefics3Processor(case.processor.image_processor, case.processor.tokenizer, image_seq_len=4)
    return dict(real(images=pictures, text=text, return_tensors="pt", add_special_tokens=not is_complete))


@torch.inference_mode()
def plain_text(case: Case, request: ContinuationRequest) -> str:
    inputs = plain_inputs(case, request.prompt, request.image, request.prefix)
    made = case.model.generate(**inputs, max_new_tokens=request.sampling.max_new_tokens, do_sample=False)
    return str(case.processor.tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


REQUESTS = [
    ask(),
    ask(image=picture("blue", (40, 90))),
    ask(image=None),
    ask("Is there a large blue square?", prefix="I will"),
]


def test_greedy_text_is_what_generate_says(case: Case, make: EngineFactory) -> None:
    answers = texts(make(), *REQUESTS)
    assert [answer for (answer,) in answers] == [plain_text(case, request) for request in REQUESTS]


def test_ids_are_the_processors_own(case: Case) -> None:
    for image in (picture("red", WIDE), picture("red", (30, 90)), None):
        layout = None if image is None else image_facts(case.processor, load_image(image)).layout
        ours = encode(case.processor, QUESTION, prefix="I", has_image=image is not None, layout=layout)
        assert ours == plain_inputs(case, QUESTION, image, "I")["input_ids"][0].tolist()


def test_a_processor_outlives_saving(case: Case, tmp_path: Path) -> None:
    case.model.config.save_pretrained(tmp_path)
    case.processor.save_pretrained(tmp_path)
    again = load_processor(tmp_path)
    image = load_image(picture("red", WIDE))
    layout, first = (image_facts(processor, image).layout for processor in (again, case.processor))
    assert layout == first
    assert encode(again, QUESTION, has_image=True, layout=layout) == encode(
        case.processor, QUESTION, has_image=True, layout=first
    )


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "smolvlm"])
def test_processors_saved_whole_are_read_too(kind: str, tmp_path: Path) -> None:
    build_tiny(kind, tmp_path)
    first = image_facts(load_processor(tmp_path), load_image(picture("red", WIDE))).layout
    # As transformers 5 writes them where torchvision is installed: one file, the image processor within.
    apart, whole = tmp_path / "preprocessor_config.json", tmp_path / "processor_config.json"
    settings = json.loads(whole.read_text()) if whole.is_file() else {}
    whole.write_text(json.dumps(settings | {"image_processor": json.loads(apart.read_text())}))
    apart.unlink()
    assert image_facts(load_processor(tmp_path), load_image(picture("red", WIDE))).layout == first


def test_the_cache_changes_no_answer(make: EngineFactory) -> None:
    warm, bare = make(), make(prefix_cache_bytes=0)
    first = ask(seeds=(1, 2), sampling=WARM)
    for request in (first, first, ask("And green?", seeds=(3,), sampling=WARM)):
        assert texts(warm, request) == texts(bare, request)
    (reply,) = generate(warm, first)
    following = ask(prefix=reply.continuations[1].text + " so", seeds=(4, 5), sampling=WARM)
    (cached,), (fresh,) = generate(warm, following), generate(make(), following)
    assert [c.text for c in cached.continuations] == [c.text for c in fresh.continuations]
    assert [c.logprob for c in cached.continuations] == pytest.approx(
        [c.logprob for c in fresh.continuations], abs=1e-3
    )


def test_a_batch_of_other_images_and_none_changes_no_answer(make: EngineFactory) -> None:
    mixed = [
        replace(REQUESTS[0], seeds=(7, 8), sampling=WARM),
        ask("Another", seeds=(1, 2, 3), sampling=WARM, image=picture("green", (30, 80))),
        ask("No picture at all, and a longer text", seeds=(4,), sampling=replace(WARM, max_new_tokens=5), image=None),
        ask("x", seeds=(5, 6), sampling=WARM, image=picture("blue"), history=(Turn(question="a", answer="b"),)),
    ]
    together = texts(make(max_rows=6), *mixed)
    assert together == [texts(make(), request)[0] for request in mixed]
    assert len(set(together[1])) > 1


def test_another_image_gives_another_answer(make: EngineFactory) -> None:
    colours = [picture(colour, WIDE) for colour in ("red", "blue", "green")]
    engine = make()
    answers = texts(engine, *(ask(image=image) for image in colours))
    assert len({answer for (answer,) in answers}) > 1
    scores = [reply.logprobs[0] for reply in asyncio.run(engine.choose([choice(image=image) for image in colours]))]
    assert all(abs(a - b) > 1e-3 for a, b in ((scores[0], scores[1]), (scores[1], scores[2]), (scores[0], scores[2])))


@pytest.mark.parametrize("image", [picture("red", WIDE), None])
def test_a_choice_is_the_log_softmax_of_a_plain_pass(case: Case, make: EngineFactory, image: ImageRef | None) -> None:
    inputs = plain_inputs(case, "Judge", image, "I choose 1")
    other = plain_inputs(case, "Judge", image, "I choose 2")["input_ids"][0]
    shared = int((inputs["input_ids"][0] != other).int().argmax())
    firsts = [int(inputs["input_ids"][0, shared]), int(other[shared])]
    cut = {
        n: t[:, :shared] if n in ("input_ids", "attention_mask", "mm_token_type_ids") else t for n, t in inputs.items()
    }
    with torch.inference_mode():
        expected = case.model(**cut, use_cache=False).logits[0, -1].log_softmax(-1)[firsts].tolist()
    (reply,) = asyncio.run(make().choose([choice(image=image)]))
    assert list(reply.logprobs) == pytest.approx(expected, abs=1e-4)


def test_usage_counts_image_tokens_and_looks_once(case: Case, make: EngineFactory) -> None:
    engine = make()
    request = ask(seeds=(1, 2), sampling=replace(WARM, max_new_tokens=5))
    prompt = plain_inputs(case, QUESTION, request.image)["input_ids"].shape[1]
    (first,), (again,), (other,) = (generate(engine, r) for r in (request, request, ask("Other")))
    made = sum(c.tokens for c in first.continuations)
    assert first.usage == Usage(prompt_tokens=prompt, cached_tokens=0, generated_tokens=made, image_encodes=1)
    assert again.usage == Usage(prompt_tokens=prompt, cached_tokens=prompt - 1, generated_tokens=made, image_encodes=0)
    assert other.usage.image_encodes == 0
    layout = image_facts(case.processor, load_image(picture("red", WIDE))).layout
    assert other.usage.cached_tokens >= len(layout.ids)


def test_a_known_prefix_needs_no_image_and_a_lost_one_is_looked_at_again(make: EngineFactory) -> None:
    # Room for one image at a time: the second throws the first out.
    engine = make(image_cache_bytes=0)
    red, blue = ask(), ask(image=picture("blue", WIDE))
    encodes = [generate(engine, request)[0].usage.image_encodes for request in (red, blue, red, blue)]
    assert encodes == [1, 1, 0, 0]
    forgetful = make(image_cache_bytes=0, prefix_cache_bytes=0)
    encodes = [generate(forgetful, request)[0].usage.image_encodes for request in (red, blue, red, red)]
    assert encodes == [1, 1, 1, 0]


def test_small_caches_give_the_same_answers_and_stay_small(make: EngineFactory) -> None:
    room = 40_000
    small, large = make(prefix_cache_bytes=room, image_cache_bytes=room), make()
    requests = [
        ask(f"Question {n}", image=picture(colour, WIDE), seeds=(n, n + 1), sampling=WARM)
        for n, colour in enumerate(("red", "blue", "red", "green", "blue"))
    ]
    for request in requests + requests:
        assert texts(small, request) == texts(large, request)
        assert small.cached_bytes.prefixes <= room
        assert small.cached_bytes.images <= room
    assert large.cached_bytes.prefixes > room


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_repeats_itself_and_stays_near(make: EngineFactory, dtype: str) -> None:
    requests = [ask(seeds=(1, 2), sampling=WARM), ask("Other", seeds=(3,), sampling=WARM, image=None)]
    first, second, bare = make(dtype=dtype), make(dtype=dtype), make(dtype=dtype, prefix_cache_bytes=0)
    told = texts(first, *requests)
    assert told == texts(second, *requests) == texts(bare, *requests)
    half, full = (asyncio.run(engine.choose([choice()]))[0].logprobs for engine in (second, make()))
    assert list(half) == pytest.approx(list(full), abs=0.5)


def test_a_bad_image_fails_its_own_call_only(make: EngineFactory) -> None:
    engine = make()

    async def scenario() -> list[Any]:
        good, bad = engine.generate([ask()]), engine.generate([ask(image=ImageRef(data=b"no image"))])
        return list(await asyncio.gather(good, bad, return_exceptions=True))

    good, bad = asyncio.run(scenario())
    assert good[0].continuations[0].text
    assert isinstance(bad, ImageError)


def test_control_tokens_in_text_stay_text(case: Case) -> None:
    token = case.processor.image_token
    ids = encode(case.processor, f"What is {token} and <|im_end|>?")
    assert case.processor.tokenizer.convert_tokens_to_ids(token) not in ids
    assert ids.count(case.processor.tokenizer.eos_token_id) == 1


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_qwen_positions_are_the_models(kind: str, tmp_path: Path) -> None:
    build_tiny(kind, tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    grids = [(1, 4, 10), (1, 8, 4), None]
    length, starts = 40, [3, 9, 0]
    expected, slots = [], QwenSlots(2, 3, model.device)
    for row, (grid, start) in enumerate(zip(grids, starts, strict=True)):
        types = torch.zeros(1, length, dtype=torch.int)
        count = 0 if grid is None else grid[1] * grid[2] // 4
        types[0, start : start + count] = 1
        thw = None if grid is None else torch.tensor([grid])
        ids = torch.zeros(1, length, dtype=torch.long)
        expected.append(model.model.get_rope_index(ids, types, image_grid_thw=thw)[0])
        columns = torch.arange(start, start + count).numpy()
        slots.place(row, None, ImageSpan(columns=columns, grid=grid or (1, 1, 1)), length)
    columns = torch.arange(length).expand(3, -1)
    assert torch.equal(slots.positions(columns), torch.cat(expected, dim=1))


def test_models_of_other_types_are_refused_by_name(tmp_path: Path) -> None:
    build_tiny("llava", tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    model.config.model_type = "paligemma"
    with pytest.raises(EngineError, match=r"mllama, llava, .* qwen3_vl; this one is 'paligemma'"):
        build_family(model)


def test_sliding_windows_are_refused(tmp_path: Path) -> None:
    build_tiny("llava_next", tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    model.config.text_config.sliding_window = 256
    with pytest.raises(EngineError, match="sliding window of 256 tokens"):
        build_family(model)


def test_a_processor_that_does_not_fit_the_model_is_named(tmp_path: Path) -> None:
    build_tiny("llava", tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(path.read_text().replace('"num_additional_image_tokens": 1', '"num_additional_image_tokens": 2'))
    with (
        TransformersEngine(TransformersEngineConfig(model=str(tmp_path))) as engine,
        pytest.raises(EngineError, match="writes 10 tokens for an image, the model makes 9 features"),
    ):
        generate(engine, ask())


@pytest.mark.skipif(
    "STAGEBEAM_TEST_COMPILE" not in os.environ or shutil.which("g++") is None,
    reason="compiling takes g++ and a minute of CPU; STAGEBEAM_TEST_COMPILE=1 asks for it",
)
def test_compiled_steps_say_the_same(tmp_path: Path) -> None:
    build_tiny("llava", tmp_path)
    requests = [
        ask(seeds=(1, 2, 3), sampling=WARM),
        ask("Other", seeds=tuple(range(16)), sampling=WARM, image=None),
        ask("And a longer one that goes on", image=picture("blue")),
    ]
    with (
        TransformersEngine(TransformersEngineConfig(model=str(tmp_path), compile=True)) as compiled,
        TransformersEngine(TransformersEngineConfig(model=str(tmp_path))) as plain,
    ):
        assert texts(compiled, requests[2]) == texts(plain, requests[2])
        assert texts(compiled, *requests) == texts(plain, *requests)


@pytest.mark.parametrize("kind", ["llava", *(("mllama", "qwen3_vl") if "STAGEBEAM_TEST_COMPILE" in os.environ else ())])
@torch.inference_mode()
def test_steps_are_traced_once_for_any_number_of_rows_and_columns(kind: str, tmp_path: Path) -> None:
    (build_tiny_mllama if kind == "mllama" else partial(build_tiny, kind))(tmp_path)
    family = build_family(AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval())
    plain = family.decoder
    compile_step(family, backend="eager")
    traced, graphs = family.decoder, counters["stats"]["unique_graphs"]
    for rows, columns, room in ((16, 5, 64), (1, 9, 64), (7, 80, 300), (2, 33, 300)):
        step = Step(
            ids=torch.arange(60, 60 + rows)[:, None],
            positions=torch.full((rows, 1), columns - 1),
            last=torch.zeros(rows, dtype=torch.long),
            columns=columns,
        )
        told = []
        for decoder in (plain, traced):
            family.decoder = decoder
            told.append(family.forward(step, KvRows(family.kv_shape, 16, room), family.new_image_slots(16)))
        assert torch.allclose(*told, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == graphs


def test_mllama_keeps_to_its_caps(tmp_path: Path) -> None:
    build_tiny_mllama(tmp_path)
    room = 40_000
    with (
        TransformersEngine(
            TransformersEngineConfig(model=str(tmp_path), prefix_cache_bytes=room, image_cache_bytes=room)
        ) as small,
        TransformersEngine(TransformersEngineConfig(model=str(tmp_path))) as large,
    ):
        for colour in ("red", "blue", "red", "green", "red"):
            request = ask(image=picture(colour), seeds=(1, 2), sampling=WARM)
            assert texts(small, request) == texts(large, request)
            assert small.cached_bytes.prefixes <= room
            assert small.cached_bytes.images <= room
        assert large.cached_bytes.prefixes > room
