"""The loss of a batch in which rows of one kind may count more than those of another."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from train.collate import IGNORED_LABEL, WEIGHTS, Encoded


def batch_loss(model: Any, batch: Encoded) -> torch.Tensor:
    """The next-token loss, a scalar: the mean over the labelled tokens, by their weights where the batch has any.

    ``model`` takes the other tensors and returns logits (b, t, v) and, given labels, its own loss.
    """
    if WEIGHTS not in batch:
        loss: torch.Tensor = model(**batch, use_cache=False).loss
        return loss
    inputs = {name: tensor for name, tensor in batch.items() if name not in ("labels", WEIGHTS)}
    return weighted_mean(model(**inputs, use_cache=False).logits, batch["labels"], batch[WEIGHTS])


def weighted_mean(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Logits (b, t, v) at a place speak of the label (b, t) at the next, which counts by its weight (b, t)."""
    targets = labels[:, 1:]
    losses = functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), targets, ignore_index=IGNORED_LABEL, reduction="none"
    )
    counted = torch.where(targets == IGNORED_LABEL, 0.0, weights[:, 1:].float())
    return (losses * counted).sum() / counted.sum().clamp(min=torch.finfo(torch.float32).tiny)
