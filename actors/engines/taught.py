"""A very small model that has learned a few answers by heart, for tests: it writes the four stages and verdicts.

The random model of ``tiny`` writes no tags, so that every search with it ends at its first stage. A
few seconds of training on a handful of texts is enough for searches to go to their end, by the same
engine as any other model. No product code may depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from actors.chat import IGNORED_LABEL, TrainingExample, encode_training, load_processor
from actors.engines.tiny import build_tiny_mllama
from reasoning.prompts import judge_prompt
from reasoning.records import Question
from reasoning.search.config import PromptStyle
from reasoning.stages import STAGES, FourStages, Stage
from reasoning.verdicts import verdict_text

QUESTION = "How many?"
"""What the model can answer."""
_STEPS = 90
_RATE = 3e-3


def build_taught_mllama(path: Path | str, *, seed: int = 0) -> None:
    """Save a model under ``path`` that answers ``QUESTION`` in four stages and judges in writing, compact prompts.

    It has a few answers to choose from and no opinion: what it says of a picture it has not seen.
    """
    folder = Path(path)
    build_tiny_mllama(folder, seed=seed)
    from transformers import AutoModelForImageTextToText

    processor = load_processor(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    image = Image.new("RGB", (32, 32), "gray")
    examples = [encode_training(processor, prompt, (), response, image) for prompt, response in _texts()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _train(model, _batch(examples, int(processor.tokenizer.pad_token_id)))
    model.eval().save_pretrained(folder)


def _texts() -> list[tuple[str, str]]:
    """Prompts and what is to be said to them."""
    answers = [
        FourStages(summary=f"I count {a}.", caption=f"red {b}. blue {a}.", reasoning=f"red {b} is {b}.", conclusion=b)
        for a, b in (("all", "1"), ("red", "2"), ("blue", "3"), ("all", "4"))
    ]
    taught = [(QUESTION, answer.render()) for answer in answers]
    question = Question(id="taught", question=QUESTION)
    for number, stage in enumerate((*STAGES, None)):
        first, second = (_said(answers[i], stage) for i in (number % 4, (number + 1) % 4))
        prompt = judge_prompt(PromptStyle.COMPACT, question, stage, {}, first, second, with_reason=True)
        taught.append((prompt, verdict_text(1 + number % 2, "it counts")))
    return taught


def _said(answer: FourStages, stage: Stage | None) -> str:
    return answer.render() if stage is None else answer[stage]


def _batch(examples: Sequence[TrainingExample], padding: int) -> dict[str, torch.Tensor]:
    ids = [torch.tensor(example.input_ids) for example in examples]
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=padding),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        "labels": pad_sequence(
            [torch.tensor(example.labels) for example in examples], batch_first=True, padding_value=IGNORED_LABEL
        ),
    }
    for name in examples[0].image_inputs:
        tensors = [example.image_inputs[name] for example in examples]
        if name == "cross_attention_mask":
            tensors = [*pad_sequence([one[0] for one in tensors], batch_first=True)[:, None]]
        batch[name] = torch.cat(tensors)
    return batch


def _train(model: Any, batch: dict[str, torch.Tensor]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.0)
    model.train()
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / _STEPS)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
