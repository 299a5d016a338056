"""The loss by weights."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from train.collate import WEIGHTS, collate
from train.losses import batch_loss, weighted_mean


def _logits(rights: list[list[float]]) -> torch.Tensor:
    """(b, t, 2): at each place the probability of token 1 is the number given."""
    p = torch.tensor(rights)
    return torch.stack([torch.log(1 - p), torch.log(p)], dim=-1)


def test_a_token_counts_by_its_weight() -> None:
    labels = torch.tensor([[-100, 1, 1], [-100, -100, 1]])
    weights = torch.tensor([[1.0, 1.0, 1.0], [6.0, 6.0, 6.0]])
    logits = _logits([[0.5, 0.5, 0.9], [0.9, 0.25, 0.9]])
    assert weighted_mean(logits, labels, weights).item() == pytest.approx((2 * math.log(2) + 6 * math.log(4)) / 8)


def test_without_a_label_there_is_no_loss() -> None:
    labels, weights = torch.full((1, 2), -100), torch.ones(1, 2)
    assert weighted_mean(_logits([[0.5, 0.5]]), labels, weights).item() == 0.0


def test_weights_reach_the_loss_and_not_the_model() -> None:
    """Weights of one give what the model itself would."""
    seen: list[set[str]] = []

    def model(**inputs: Any) -> SimpleNamespace:
        seen.append(set(inputs))
        return SimpleNamespace(logits=_logits([[0.5, 0.25, 0.5], [0.5, 0.5, 0.5]]), loss=torch.tensor(9.0))

    rows = [
        {"input_ids": torch.ones(1, n, dtype=torch.long), "labels": torch.ones(1, n, dtype=torch.long)} for n in (3, 2)
    ]
    weighted = [{**row, WEIGHTS: torch.full(row["labels"].shape, 1.0)} for row in rows]
    loss = batch_loss(model, collate(weighted, 0))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4) + math.log(2)) / 3)
    assert seen == [{"input_ids", "use_cache"}]
    assert batch_loss(model, collate(rows, 0)).item() == 9.0
