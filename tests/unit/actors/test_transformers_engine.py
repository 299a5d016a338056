"""The engine against the plain model: same tokens, same numbers, and every token counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from engine_cases import EngineFactory, picture

from actors.chat import cross_attention_mask, encode, image_facts
from actors.engines.transformers_engine import TransformersEngine, TransformersEngineConfig
from actors.images import load_image
from reasoning.errors import EngineError, ImageError, InputError
from reasoning.ledger import Usage
from reasoning.protocols import (
    ChoiceRequest,
    Continuation,
    ContinuationReply,
    ContinuationRequest,
    Sampling,
    StopReason,
)
from reasoning.records import ImageRef, Turn

GREEDY = Sampling(temperature=0, max_new_tokens=24)
WARM = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=24)
QUESTION = "How many red circles are there?"


def ask(prompt: str = QUESTION, **fields: Any) -> ContinuationRequest:
    values: dict[str, Any] = {"image": picture(), "prefix": "", "stops": (), "seeds": (0,), "sampling": GREEDY}
    return ContinuationRequest(prompt=prompt, **(values | fields))


def generate(engine: TransformersEngine, *requests: ContinuationRequest) -> list[ContinuationReply]:
    return asyncio.run(engine.generate(requests))


def one(engine: TransformersEngine, request: ContinuationRequest) -> Continuation:
    (reply,) = generate(engine, request)
    return reply.continuations[0]


@torch.inference_mode()
def plain_logits(model: Any, processor: Any, ids: Sequence[int], image: ImageRef | None) -> torch.Tensor:
    """Logits [tokens, vocabulary] of one pass without cache, batch or engine."""
    inputs: dict[str, Any] = {"input_ids": torch.tensor([list(ids)])}
    if image is not None:
        facts = image_facts(processor, load_image(image))
        inputs |= facts.tensors | {"cross_attention_mask": cross_attention_mask(processor, ids, facts.tiles)[None]}
    logits: torch.Tensor = model(**inputs, use_cache=False).logits[0]
    return logits


def plain_greedy(model: Any, processor: Any, request: ContinuationRequest) -> tuple[str, float, int]:
    """Text, log-probability and number of tokens, each token from a pass over the whole text."""
    ids = encode(
        processor,
        request.prompt,
        prefix=request.prefix,
        history=request.history,
        has_image=request.image is not None,
    )
    start, total = len(ids), 0.0
    for _ in range(request.sampling.max_new_tokens):
        last = plain_logits(model, processor, ids, request.image)[-1].log_softmax(-1)
        token = int(last.argmax())
        total += float(last[token])
        ids.append(token)
        if token == processor.tokenizer.eos_token_id:
            break
    text = processor.tokenizer.decode(ids[start:], skip_special_tokens=True)
    return text, total, len(ids) - start


REQUESTS = [
    ask(),
    ask(image=picture("blue")),
    ask(image=None),
    ask("Is there a large blue square in the picture, or is there none at all?", prefix="<SUMMARY> I will"),
    ask("And now?", history=(Turn(question="Is there a star?", answer="no"),), image=picture("green", (30, 50))),
    ask("x", image=None, prefix="I choose response "),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_greedy_text_is_the_plain_models(
    make_engine: EngineFactory, model: Any, processor: Any, request_: ContinuationRequest
) -> None:
    text, logprob, tokens = plain_greedy(model, processor, request_)
    answer = one(make_engine(), request_)
    assert (answer.text, answer.tokens) == (text, tokens)
    assert answer.logprob == pytest.approx(logprob, abs=1e-3)


def test_questions_in_one_batch_answer_as_alone(make_engine: EngineFactory) -> None:
    alone = [one(make_engine(), request) for request in REQUESTS]
    together = [reply.continuations[0] for reply in generate(make_engine(), *REQUESTS)]
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.logprob for a in together] == pytest.approx([a.logprob for a in alone], abs=1e-3)


def test_another_image_gives_other_logits_and_another_answer(make_engine: EngineFactory) -> None:
    red, blue = generate(make_engine(), ask(), ask(image=picture("blue")))
    assert red.continuations[0].text != blue.continuations[0].text
    scores = choose(make_engine(), choice(), choice(image=picture("blue")))
    assert abs(scores[0][0] - scores[1][0]) > 1e-3


def test_forked_candidates_equal_independent_runs(make_engine: EngineFactory) -> None:
    seeds = (11, 12, 13, 14, 15)
    (forked,) = generate(make_engine(), ask(seeds=seeds, sampling=WARM))
    alone = [one(make_engine(), ask(seeds=(seed,), sampling=WARM)) for seed in seeds]
    assert [c.text for c in forked.continuations] == [c.text for c in alone]
    assert [c.seed for c in forked.continuations] == list(seeds)
    assert len({c.text for c in alone}) == len(seeds)


def test_seeds_repeat_whatever_else_is_in_the_batch(make_engine: EngineFactory) -> None:
    request = ask(seeds=(7, 8), sampling=WARM)
    (quiet,) = generate(make_engine(), request)
    others = [ask(f"Question {i}", seeds=(i, i + 1), sampling=WARM, image=picture("green")) for i in range(6)]
    busy = generate(make_engine(max_rows=6), *others[:3], request, *others[3:])[3]
    assert [c.text for c in busy.continuations] == [c.text for c in quiet.continuations]


def test_next_stage_from_the_cache_equals_a_fresh_engine(make_engine: EngineFactory, processor: Any) -> None:
    engine = make_engine()
    (first,) = generate(engine, ask(seeds=(1, 2, 3), sampling=WARM))
    prefix = first.continuations[1].text + "\n\n<CAPTION>"
    following = ask(prefix=prefix, seeds=(4, 5), sampling=WARM)
    (cached,), (fresh,) = generate(engine, following), generate(make_engine(), following)
    assert [c.text for c in cached.continuations] == [c.text for c in fresh.continuations]
    assert [c.logprob for c in cached.continuations] == pytest.approx(
        [c.logprob for c in fresh.continuations], abs=1e-3
    )
    assert cached.usage.cached_tokens >= len(encode(processor, QUESTION, has_image=True))
    assert (fresh.usage.cached_tokens, fresh.usage.image_encodes, cached.usage.image_encodes) == (0, 1, 0)


def test_eviction_changes_no_answer(make_engine: EngineFactory) -> None:
    engine = make_engine(prefix_cache_bytes=0, image_cache_bytes=0)
    roomy = make_engine()
    requests = [ask(image=picture(colour), seeds=(1, 2), sampling=WARM) for colour in ("red", "blue", "red", "green")]
    for request in requests + requests:
        (small,), (large,) = generate(engine, request), generate(roomy, request)
        assert [c.text for c in small.continuations] == [c.text for c in large.continuations]
        assert small.usage.cached_tokens == 0


def test_usage_counts_every_token_once(make_engine: EngineFactory, processor: Any) -> None:
    engine = make_engine()
    request = ask(seeds=(1, 2, 3), sampling=replace(WARM, max_new_tokens=5))
    prompt = len(encode(processor, QUESTION, has_image=True))
    (first,), (again,) = generate(engine, request), generate(engine, request)
    made = sum(c.tokens for c in first.continuations)
    assert first.usage == Usage(prompt_tokens=prompt, cached_tokens=0, generated_tokens=made, image_encodes=1)
    # All but the last token is known; that one is run anew for its logits.
    assert again.usage == Usage(prompt_tokens=prompt, cached_tokens=prompt - 1, generated_tokens=made, image_encodes=0)


def test_an_image_is_encoded_once_for_all_requests(make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.mllama.modeling_mllama import MllamaVisionModel

    seen: list[int] = []
    original = MllamaVisionModel.forward

    def counted(self: Any, pixel_values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(pixel_values))
        return original(self, pixel_values, *args, **kwargs)

    monkeypatch.setattr(MllamaVisionModel, "forward", counted)
    engine = make_engine()
    replies = generate(engine, ask(), ask("Another question"), ask(image=picture("blue")))
    choose(engine, choice(), choice("Judge something else"))
    assert seen == [2]
    assert [reply.usage.image_encodes for reply in replies] == [1, 0, 1]


def test_end_of_turn_ends_the_text_and_is_counted(make_engine: EngineFactory, processor: Any) -> None:
    engine = make_engine()
    (reply,) = generate(engine, ask(seeds=tuple(range(60)), sampling=replace(WARM, temperature=1.5, top_p=1.0)))
    ended = [c for c in reply.continuations if c.stop is StopReason.EOS]
    assert ended
    assert all("<|eot_id|>" not in c.text for c in ended)
    empty = [c for c in ended if not c.text]
    assert all(c.tokens == 1 for c in empty)
    assert {c.stop for c in reply.continuations} <= {StopReason.EOS, StopReason.LENGTH}


def test_length_is_a_typed_outcome(make_engine: EngineFactory) -> None:
    answer = one(make_engine(), ask(sampling=replace(GREEDY, max_new_tokens=3)))
    assert (answer.stop, answer.tokens) == (StopReason.LENGTH, 3)


def test_stop_text_is_kept_and_nothing_after_it(make_engine: EngineFactory) -> None:
    engine = make_engine()
    whole = one(engine, ask()).text
    # Of three and more characters: several tokens, and it may end within one.
    for start in range(2, len(whole) - 4, 3):
        stop = whole[start : start + 4]
        answer = one(engine, ask(stops=(stop,)))
        assert answer.stop is StopReason.TAG
        assert answer.text == whole.partition(stop)[0] + stop


def test_of_several_stop_texts_the_first_to_come_ends_it(make_engine: EngineFactory) -> None:
    engine = make_engine()
    whole = one(engine, ask()).text
    early, late = whole[4:8], whole[12:16]
    answer = one(engine, ask(stops=(late, early, "not in the text")))
    assert answer.text == whole.partition(early)[0] + early


def test_a_tag_in_the_question_or_the_prefix_stops_nothing(make_engine: EngineFactory) -> None:
    request = ask("What is </SUMMARY> ?", prefix="<SUMMARY> a </SUMMARY>", stops=("</SUMMARY>",))
    answer = one(make_engine(), request)
    assert answer.tokens == 24
    assert answer.stop is StopReason.LENGTH


def choice(prompt: str = "Judge caption", **fields: Any) -> ChoiceRequest:
    values: dict[str, Any] = {"image": picture(), "prefix": "I choose response ", "options": ("1", "2")}
    return ChoiceRequest(prompt=prompt, **(values | fields))


def choose(engine: TransformersEngine, *requests: ChoiceRequest) -> list[tuple[float, ...]]:
    return [reply.logprobs for reply in asyncio.run(engine.choose(requests))]


@pytest.mark.parametrize(
    "request_", [choice(), choice(image=None), choice(prefix="Is it ", options=("yes", "no", "a"))]
)
def test_choice_equals_a_plain_pass(
    make_engine: EngineFactory, model: Any, processor: Any, request_: ChoiceRequest
) -> None:
    bare = encode(processor, request_.prompt, prefix=request_.prefix, has_image=request_.image is not None)
    whole = [
        encode(processor, request_.prompt, prefix=request_.prefix + option, has_image=request_.image is not None)
        for option in request_.options
    ]
    shared = next(i for i in range(len(bare) + 1) if len({ids[i] for ids in whole}) > 1)
    scores = plain_logits(model, processor, whole[0][:shared], request_.image)[-1].log_softmax(-1)
    expected = [float(scores[ids[shared]]) for ids in whole]
    assert choose(make_engine(), request_)[0] == pytest.approx(expected, abs=1e-4)


def test_judgements_of_one_question_share_their_start(make_engine: EngineFactory, processor: Any) -> None:
    head = (
        "How many red circles are there in the picture?\nHint: a large blue square at the top left\nJudge reasoning\n"
    )
    texts = [f"so the count is {word}, and that is what the picture shows" for word in ("one", "two", "green")]
    prompts = [f"{head}1: {a}\n2: {b}" for a in texts for b in texts if a != b]
    requests = [choice(prompt) for prompt in prompts]
    engine = make_engine()
    replies = asyncio.run(engine.choose(requests))
    alone = [choose(make_engine(), request)[0] for request in requests]
    for reply, scores in zip(replies, alone, strict=True):
        assert reply.logprobs == pytest.approx(scores, abs=1e-4)
    assert replies[0].usage.cached_tokens == 0
    shared = len(encode(processor, head, has_image=True)) - 8
    assert all(reply.usage.cached_tokens >= shared for reply in replies[1:])


def test_a_single_option_is_scored(make_engine: EngineFactory) -> None:
    engine = make_engine()
    assert choose(engine, choice(options=("1",)))[0][0] == pytest.approx(choose(engine, choice())[0][0], abs=1e-4)


def test_options_that_begin_alike_are_refused(make_engine: EngineFactory) -> None:
    with pytest.raises(InputError, match="different token"):
        choose(make_engine(), choice(options=("1", "1")))


def test_cancelling_frees_the_rows(make_engine: EngineFactory) -> None:
    engine = make_engine(max_rows=4)
    endless = ask(seeds=(1, 2, 3, 4), sampling=replace(WARM, max_new_tokens=2048, temperature=0.3))

    async def scenario() -> Continuation:
        task = asyncio.create_task(engine.generate([endless]))
        while not engine.running_rows:  # noqa: ASYNC110 - the engine is a thread and sets no asyncio event
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (reply,) = await engine.generate([ask(sampling=replace(GREEDY, max_new_tokens=2))])
        return reply.continuations[0]

    assert asyncio.run(scenario()).tokens == 2
    assert engine.running_rows == 0


def test_a_bad_image_fails_its_own_call_only(make_engine: EngineFactory) -> None:
    engine = make_engine()

    async def scenario() -> list[Any]:
        good, bad = engine.generate([ask()]), engine.generate([ask(image=ImageRef(data=b"no image"))])
        return list(await asyncio.gather(good, bad, return_exceptions=True))

    good, bad = asyncio.run(scenario())
    assert good[0].continuations[0].text
    assert isinstance(bad, ImageError)


def test_more_seeds_than_rows_still_finish(make_engine: EngineFactory) -> None:
    replies = generate(make_engine(max_rows=2), ask(seeds=(1, 2, 3, 4, 5)), ask(seeds=(1,)))
    assert [len(reply.continuations) for reply in replies] == [5, 1]


def test_a_prompt_beyond_the_context_is_refused(make_engine: EngineFactory) -> None:
    with pytest.raises(InputError, match="context 4096"):
        generate(make_engine(), ask("word " * 4096))


def test_a_closed_engine_says_so(make_engine: EngineFactory) -> None:
    engine = make_engine()
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        generate(engine, ask())


def test_a_missing_model_is_named(tmp_path: Any) -> None:
    with pytest.raises(EngineError, match="nothing_here"):
        TransformersEngine(TransformersEngineConfig(model=str(tmp_path / "nothing_here")))


def test_images_of_several_tiles_match_the_plain_model(tmp_path: Any) -> None:
    from transformers import AutoModelForImageTextToText

    from actors.chat import load_processor
    from actors.engines.tiny import build_tiny_mllama

    build_tiny_mllama(tmp_path, max_tiles=4, tags_as_tokens=False)
    model, processor = AutoModelForImageTextToText.from_pretrained(tmp_path).eval(), load_processor(tmp_path)
    requests = [ask(image=picture("red", (30, 30))), ask(image=picture("blue", (90, 30)), stops=("</SUMMARY>",))]
    with TransformersEngine(TransformersEngineConfig(model=str(tmp_path))) as engine:
        replies = generate(engine, *requests)
    for request, reply in zip(requests, replies, strict=True):
        assert reply.continuations[0].text == plain_greedy(model, processor, request)[0]
