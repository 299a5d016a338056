"""Seeds depend on what is drawn and on nothing else."""

from __future__ import annotations

from itertools import product

from reasoning.seeds import derive_seed
from reasoning.stages import STAGES


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive_seed(0, "q1", STAGES[0]) == 94171759925036
    assert 0 <= derive_seed(2**80, "q\ud800", None, 3, 1) < 2**53


def test_every_part_counts() -> None:
    seeds = [
        derive_seed(run, name, stage, index, attempt, purpose=purpose)
        for run, name, stage, index, attempt, purpose in product(
            (0, 1), ("a", "b"), (*STAGES, None), (0, 1), (0, 1), ("draw", "pairs")
        )
    ]
    assert len(set(seeds)) == len(seeds)
