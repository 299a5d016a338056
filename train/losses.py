"""What a batch's loss is the mean of."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from train.collate import IGNORED_LABEL, Encoded
from train.config import LossMean


def mean_loss(model: Any, batch: Encoded, mean: LossMean) -> torch.Tensor:
    """The next-token loss of a batch, a scalar; ``model`` takes its tensors and returns logits (b, t, v)."""
    if mean is LossMean.TOKEN:
        loss: torch.Tensor = model(**batch, use_cache=False).loss
        return loss
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    return row_mean(model(**inputs, use_cache=False).logits, batch["labels"])


def row_mean(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over rows of each row's mean over its labelled tokens; rows without a label do not count.

    Logits (b, t, v) at a place speak of the label (b, t) at the next.
    """
    targets = labels[:, 1:]
    losses = functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), targets, ignore_index=IGNORED_LABEL, reduction="none"
    )
    counts = (targets != IGNORED_LABEL).sum(1)
    rows = losses.sum(1) / counts.clamp(min=1)
    return rows.sum() / (counts > 0).sum().clamp(min=1)
