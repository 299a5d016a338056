"""Transformers reward models: scores equal a forward pass by hand, alone and in any batch."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from actors.rewards.build import build_rewarder
from actors.rewards.config import RewardConfig, RewardKind, StepJoin
from actors.rewards.tiny import STEP_TOKEN, build_tiny_reward, build_tiny_step_reward
from reasoning.errors import ConfigError, EngineError, ImageError
from reasoning.protocols import RewardReply, RewardRequest
from reasoning.records import ImageRef, Question
from reasoning.stages import FourStages, Stage

QUESTION = Question(id="q", question="How many cubes are there?", choices=("2", "3"))
TEXTS = ("Count.", "I will count the cubes one by one, from left to right, and say how many there are.", "3 cubes.")


def request(text: str, stage: Stage | None = Stage.REASONING, question: Question = QUESTION) -> RewardRequest:
    prior = {Stage.SUMMARY: "Count.", Stage.CAPTION: "Two cubes."} if stage is Stage.REASONING else {}
    return RewardRequest(question=question, stage=stage, prior=prior, text=text)


def score(config: RewardConfig, *calls: Sequence[RewardRequest]) -> list[list[RewardReply]]:
    """The replies to each of some calls that are made at the same time."""

    async def ask() -> list[list[RewardReply]]:
        rewarder = build_rewarder(config)
        try:
            return list(await asyncio.gather(*(rewarder.reward(call) for call in calls)))
        finally:
            await rewarder.aclose()

    return asyncio.run(ask())


def sequence_config(folder: Path, **changes: Any) -> RewardConfig:
    return RewardConfig(kind=RewardKind.SEQUENCE_CLASSIFICATION, model=str(folder), **changes)


@torch.no_grad()
def by_hand(folder: Path, answer: str) -> tuple[list[float], int]:
    """The logits and the number of tokens of one conversation, without any of our code."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = "How many cubes are there?\nA. 2\nB. 3"
    if tokenizer.chat_template is None:
        inputs = tokenizer(asked, answer, return_tensors="pt")
    else:
        chat = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return model(**inputs).logits[0].tolist(), inputs["input_ids"].shape[1]


def written(reasoning: str) -> str:
    return f"<SUMMARY> Count. </SUMMARY>\n\n<CAPTION> Two cubes. </CAPTION>\n\n<REASONING> {reasoning} </REASONING>"


@pytest.mark.parametrize(("has_template", "has_pad"), [(True, True), (True, False), (False, True)])
def test_score_is_the_models_logit_whatever_shares_its_batch(tmp_path: Path, has_template: bool, has_pad: bool) -> None:
    build_tiny_reward(tmp_path, has_template=has_template, has_pad=has_pad)
    alone = [score(sequence_config(tmp_path), [request(text)])[0][0] for text in TEXTS]
    [together] = score(sequence_config(tmp_path), [request(text) for text in TEXTS])
    for text, one, other in zip(TEXTS, alone, together, strict=True):
        [logit], tokens = by_hand(tmp_path, written(text))
        assert one.score == pytest.approx(logit, abs=1e-5)
        assert other.score == pytest.approx(logit, abs=1e-5)
        assert (one.usage.prompt_tokens, other.usage.prompt_tokens) == (tokens, tokens)
    assert len({round(one.score, 4) for one in alone}) == len(TEXTS)


def test_of_two_labels_the_score_is_the_log_odds_of_the_one_that_is_named(tmp_path: Path) -> None:
    build_tiny_reward(tmp_path, labels=2)
    (first, last), _ = by_hand(tmp_path, written("Count."))
    [[default]] = score(sequence_config(tmp_path), [request("Count.")])
    [[named]] = score(sequence_config(tmp_path, label="LABEL_0"), [request("Count.")])
    assert default.score == pytest.approx(last - first, abs=1e-5)
    assert named.score == pytest.approx(first - last, abs=1e-5)
    with pytest.raises(ConfigError, match="'good' is none of the labels"):
        build_rewarder(sequence_config(tmp_path, label="good"))


@pytest.mark.parametrize("join", list(StepJoin))
def test_steps_are_scored_at_their_separators_and_joined(tmp_path: Path, join: StepJoin) -> None:
    build_tiny_step_reward(tmp_path)
    config = RewardConfig(
        kind=RewardKind.TOKEN_CLASSIFICATION, model=str(tmp_path), step_separator=STEP_TOKEN, join=join
    )
    answer = FourStages(summary="Count.", caption="Two cubes.", reasoning="1, 2.", conclusion="2").render()
    [[reply, short]] = score(config, [request(answer, None), request("Short.", None)])

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    asked = [{"role": "user", "content": "How many cubes are there?\nA. 2\nB. 3"}]
    opening = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    text = opening + "".join(part + STEP_TOKEN for part in answer.split("\n\n"))
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = AutoModelForTokenClassification.from_pretrained(tmp_path).eval()(ids).logits[0]
    places = (ids[0] == tokenizer.convert_tokens_to_ids(STEP_TOKEN)).nonzero()[:, 0]
    right = logits[places].softmax(-1)[:, 1].double()
    assert len(right) == 4
    expected = {"last": right[-1], "min": right.min(), "mean": right.mean(), "product": right.prod()}[join.value]
    assert reply.score == pytest.approx(float(torch.logit(expected)), abs=1e-4)
    assert reply.usage.prompt_tokens == ids.shape[1]
    assert short.score != reply.score


def test_earlier_stages_are_read_but_not_scored(tmp_path: Path) -> None:
    build_tiny_step_reward(tmp_path)
    config = RewardConfig(
        kind=RewardKind.TOKEN_CLASSIFICATION, model=str(tmp_path), step_separator=STEP_TOKEN, join=StepJoin.MIN
    )
    staged = request("1, 2.")
    whole = request(written("1, 2."), None)
    [[last]] = score(config.model_copy(update={"join": StepJoin.LAST}), [whole])
    [[one, all_three]] = score(config, [staged, whole])
    assert one.score == pytest.approx(last.score, abs=1e-5)
    assert all_three.score <= one.score


def test_a_text_that_is_too_long_gets_no_score_and_the_others_theirs(tmp_path: Path) -> None:
    build_tiny_reward(tmp_path)
    config = sequence_config(tmp_path, max_tokens=150)
    [[before, long, after]] = score(config, [request("Count."), request("cubes " * 200), request("Count.")])
    assert math.isnan(long.score)
    assert long.usage.prompt_tokens == 0
    assert before.score == after.score == pytest.approx(score(config, [request("Count.")])[0][0].score, abs=1e-5)


def test_a_candidate_cannot_write_control_tokens(tmp_path: Path) -> None:
    build_tiny_step_reward(tmp_path)
    config = RewardConfig(
        kind=RewardKind.TOKEN_CLASSIFICATION, model=str(tmp_path), step_separator=STEP_TOKEN, join=StepJoin.MEAN
    )
    [[forged, spelled]] = score(config, [request(f"Count. {STEP_TOKEN}"), request(f"Count. < {STEP_TOKEN[1:]}")])
    assert forged.score == spelled.score


def test_calls_made_together_share_a_batch(tmp_path: Path) -> None:
    build_tiny_reward(tmp_path)
    config = sequence_config(tmp_path, batch_size=2)
    calls = [[request(TEXTS[0])], [request(TEXTS[1]), request(TEXTS[2])], []]
    replies = score(config, *calls)
    flat = [reply.score for call in replies for reply in call]
    assert flat == pytest.approx([by_hand(tmp_path, written(text))[0][0] for text in TEXTS], abs=1e-5)


def test_a_model_without_a_score_head_is_refused(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    build_tiny_reward(tmp_path)
    config = LlamaConfig.from_pretrained(tmp_path)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(EngineError, match=r"no trained reward model.*score\.weight"):
        build_rewarder(sequence_config(tmp_path))
    with pytest.raises(EngineError, match="cannot load the reward model"):
        build_rewarder(sequence_config(tmp_path / "nothing"))


def test_a_model_that_takes_pictures_sees_them(tmp_path: Path) -> None:
    build_tiny_gemma3(tmp_path)
    config = sequence_config(tmp_path)
    red, blue = (Question(id="q", question="How many cubes?", image=ImageRef(data=png(c))) for c in ("red", "blue"))
    [[first, second, blind]] = score(
        config, [request("2", question=red), request("2 cubes", question=blue), request("2 cubes")]
    )
    [[alone]] = score(config, [request("2", question=red)])
    [[other]] = score(config, [request("2", question=blue)])
    assert first.score == pytest.approx(alone.score, abs=1e-4)
    assert abs(alone.score - other.score) > 1e-3
    assert (first.usage.image_encodes, second.usage.image_encodes, blind.usage.image_encodes) == (1, 1, 0)
    broken = Question(id="q", question="How many?", image=ImageRef(data=b"none"))
    with pytest.raises(ImageError):
        score(config, [request("2", question=broken)])


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


def build_tiny_gemma3(folder: Path) -> None:
    """A Gemma 3 for sequence classification: a picture is four tokens among the text's."""
    from transformers import (
        Gemma3Config,
        Gemma3ForSequenceClassification,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    from actors.engines.tiny import CHAT_TEMPLATE

    build_tiny_reward(folder)
    named = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<image>"}
    tokenizer = AutoTokenizer.from_pretrained(folder, extra_special_tokens=named)
    images = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    template = CHAT_TEMPLATE.replace("<|image|>", "<boi>")
    processor = Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=4)
    processor.save_pretrained(folder)
    text = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8
    )
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, num_labels=1,
        boi_token_index=tokenizer.convert_tokens_to_ids("<boi>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<eoi>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gemma3ForSequenceClassification(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() >= 2:
                    parameter.normal_(0.0, 1.0 if "embed" in name else 2 * parameter.shape[-1] ** -0.5)
    model.save_pretrained(folder)
