"""Which rows of a window go into which batch. Pure: numbers in, indices out."""

from __future__ import annotations

import random
from collections.abc import Sequence


def batch_rows(lengths: Sequence[int], batch_size: int, *, row_seed: str, batch_seed: str) -> list[list[int]]:
    """Indices into a window, cut into batches of rows of like length; the batches in random order.

    Rows are shuffled by ``row_seed`` before they are sorted, so that ties change from epoch to epoch;
    ``batch_seed`` orders the batches. Workers that share ``batch_seed`` see short and long batches at
    the same time, so none waits for another. Rows beyond a whole batch are left out, at random.
    """
    order = list(range(len(lengths)))
    random.Random(row_seed).shuffle(order)
    order = order[: len(order) - len(order) % batch_size]
    order.sort(key=lambda index: lengths[index])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    random.Random(batch_seed).shuffle(batches)
    return batches
