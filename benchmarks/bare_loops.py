"""Loops that decode a batch of rows and do nothing else: the limit for an engine's tokens a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from actors.chat import encode, image_facts
from actors.engines.families import build_family
from actors.engines.families.base import Step
from actors.engines.kv import KvRows
from actors.images import load_image
from reasoning.prompts import question_text
from reasoning.records import Question


def step_loop(model: Any, rows: int, prompt: int, steps: int) -> float:
    """Rows x steps a second of the engine's forward pass alone, over buffers of zeros."""
    family = build_family(model)
    device = family.kv_shape.device
    kv, images = KvRows(family.kv_shape, rows, prompt + steps), family.new_image_slots(rows)
    token = torch.zeros(rows, 1, dtype=torch.long, device=device)
    last = torch.zeros(rows, dtype=torch.long, device=device)
    started = 0.0
    with torch.inference_mode():
        for column in range(prompt, prompt + steps):
            step = Step(
                ids=token, positions=torch.full((rows, 1), column, device=device), last=last, columns=column + 1
            )
            token = family.forward(step, kv, images).argmax(-1, keepdim=True)
            # The first step is a warm-up.
            started = started or time.perf_counter()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return rows * (steps - 1) / (time.perf_counter() - started)


def library_loop(model: Any, processor: Any, questions: Sequence[Question], each: int, steps: int) -> float:
    """Rows x steps a second of the model's own forward pass in one static batch."""
    from transformers import DynamicCache

    device = model.device
    rows = [question for question in questions for _ in range(each)]
    ids = [encode(processor, question_text(one), has_image=True) for one in rows]
    width = max(map(len, ids))
    pad = processor.tokenizer.pad_token_id
    batch = torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=device)
    facts = [image_facts(processor, load_image(one.image)) for one in rows if one.image is not None]
    images = {name: torch.cat([one.tensors[name] for one in facts]).to(device) for name in facts[0].tensors}
    images["pixel_values"] = images["pixel_values"].to(model.dtype)
    tiles = torch.tensor([one.tiles for one in facts], device=device)
    seen = tiles[:, None, None, :].expand(-1, width, 1, -1)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        made = model(
            input_ids=batch,
            attention_mask=mask,
            cross_attention_mask=seen,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **images,
        )
        token = made.logits[:, -1].argmax(-1, keepdim=True)
        started = time.perf_counter()
        for _ in range(steps - 1):
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            made = model(
                input_ids=token,
                attention_mask=mask,
                cross_attention_mask=seen[:, -1:],
                past_key_values=cache,
                use_cache=True,
            )
            token = made.logits[:, -1].argmax(-1, keepdim=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return len(rows) * (steps - 1) / (time.perf_counter() - started)
