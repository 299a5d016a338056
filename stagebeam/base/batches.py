"""Exercises to tensors: tokens, labels, weights, pictures."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from stagebeam.base.architecture import ASSISTANT, BOS, EOT, IMAGE, USER
from stagebeam.base.skills import Practice, practise
from stagebeam.world.draw import draw_scene

VERDICT_WORDS = (" yes", " no", " left", " removed", "true", "false", " 1", " 2", "1", "2", " So")
VERDICT_WEIGHT = 3.0
NUMBER_WEIGHT = 20.0
"""Of the verdict that a matching or rating exercise ends with: one token, against some forty of a description."""
IGNORED = UNMARKED = -100


def pixels(practices: Sequence[Practice]) -> dict[str, torch.Tensor]:
    """As the processor makes them for a picture of one tile: scaled to [-1, 1], shape (b, 1, 1, 3, 72, 72)."""
    scenes = [p.scene for p in practices if p.scene is not None]
    stack = np.stack([np.asarray(draw_scene(s), dtype=np.float32) for s in scenes]).transpose(0, 3, 1, 2)
    values = torch.from_numpy(stack / 127.5 - 1.0)[:, None, None]
    ones = torch.ones(len(scenes), 1, dtype=torch.long)
    return {"pixel_values": values, "aspect_ratio_ids": ones, "aspect_ratio_mask": ones[:, None, :]}


class Collator:
    """Right-padded batches of exercises that all have, or all lack, a picture."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.pad = int(tokenizer.pad_token_id)
        verdict_ids = [tokenizer(w, add_special_tokens=False).input_ids for w in VERDICT_WORDS]
        self.verdict_ids = torch.tensor(sorted({ids[0] for ids in verdict_ids if len(ids) == 1}))

    def __call__(self, practices: Sequence[Practice]) -> dict[str, torch.Tensor]:
        has_image = practices[0].scene is not None
        heads = [f"{BOS}{USER}{IMAGE if has_image else ''}{p.prompt}{EOT}{ASSISTANT}" for p in practices]
        encoded = self.tokenizer(heads, add_special_tokens=False, return_offsets_mapping=True)
        head_ids = encoded.input_ids
        tail_ids = self.tokenizer([p.response + EOT for p in practices], add_special_tokens=False).input_ids
        width = max(len(h) + len(t) for h, t in zip(head_ids, tail_ids, strict=True))
        ids = torch.full((len(practices), width), self.pad)
        labels = torch.full((len(practices), width), IGNORED)
        mask = torch.zeros((len(practices), width), dtype=torch.long)
        weights = torch.zeros((len(practices), width))
        marks = torch.full((len(practices), width), UNMARKED)
        for row, (head, tail) in enumerate(zip(head_ids, tail_ids, strict=True)):
            end = len(head) + len(tail)
            ids[row, :end] = torch.tensor(head + tail)
            labels[row, len(head) : end] = torch.tensor(tail)
            mask[row, :end] = 1
            weights[row, len(head) : end] = torch.where(
                torch.isin(torch.tensor(tail), self.verdict_ids), VERDICT_WEIGHT, 1.0
            )
            practice = practices[row]
            if practice.skill.startswith(("match", "rate")):
                weights[row, end - 3] = NUMBER_WEIGHT
            before = len(heads[row]) - len(practice.prompt) - len(EOT) - len(ASSISTANT)
            for spot in practice.spots:
                for place, (first, last) in enumerate(encoded.offset_mapping[row]):
                    if first - before < spot.end and last - before > spot.start:
                        marks[row, place] = int(spot.is_wrong)
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels, "weights": weights, "marks": marks}
        if has_image:
            batch |= pixels(practices)
            # From the picture's token on, every token may look at it, as the processor has it.
            seen = (ids == int(self.tokenizer.convert_tokens_to_ids(IMAGE))).cumsum(1) > 0
            batch["cross_attention_mask"] = (seen & (mask > 0)).long()[:, :, None, None]
        return batch


def draw_batch(rng: random.Random, mix: Mapping[str, float], size: int, pool: int = 4) -> list[list[Practice]]:
    """``pool`` batches of one kind each (with or without pictures), rows of like length together."""
    names, shares = zip(*mix.items(), strict=True)
    found = [practise(rng, skill) for skill in rng.choices(names, shares, k=size * pool)]
    batches: list[list[Practice]] = []
    for has_image in (False, True):
        rows = [p for p in found if (p.scene is not None) == has_image]
        rows.sort(key=lambda p: len(p.prompt) + len(p.response))
        batches += [rows[i : i + size] for i in range(0, len(rows), size)]
    batches = [b for b in batches if len(b) > size // 4]
    rng.shuffle(batches)
    return batches
