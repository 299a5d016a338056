"""The two means of a batch's loss."""

from __future__ import annotations

import math

import pytest
import torch

from train.losses import row_mean


def _logits(rights: list[list[float]]) -> torch.Tensor:
    """(b, t, 2): at each place the probability of token 1 is the number given."""
    p = torch.tensor(rights)
    return torch.stack([torch.log(1 - p), torch.log(p)], dim=-1)


def test_a_row_of_one_label_weighs_as_much_as_one_of_three() -> None:
    labels = torch.tensor([[-100, 1, 1, 1], [-100, -100, -100, 1]])
    logits = _logits([[0.5, 0.5, 0.5, 0.9], [0.9, 0.9, 0.25, 0.9]])
    assert row_mean(logits, labels).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_rows_without_labels_do_not_count() -> None:
    labels = torch.tensor([[-100, 1], [-100, -100]])
    assert row_mean(_logits([[0.5, 0.5], [0.1, 0.1]]), labels).item() == pytest.approx(math.log(2))
    assert row_mean(_logits([[0.5, 0.5]]), torch.tensor([[-100, -100]])).item() == 0.0
