"""Seeds that depend on what is drawn, not on when or where: the same tree at any number of workers."""

from __future__ import annotations

import hashlib

from reasoning.stages import Stage

# 53 bits: every seed survives JSON readers that keep numbers as doubles, and fits int64.
_SEED_BITS = 53


def derive_seed(
    run_seed: int, question_id: str, stage: Stage | None, index: int = 0, attempt: int = 0, *, purpose: str = "draw"
) -> int:
    """The seed of one draw, in [0, 2**53).

    ``stage`` None means whole answers; ``index`` is the candidate's place in its round, ``attempt``
    counts repairs, ``purpose`` keeps draws for different ends apart (``draw``, ``pairs``).
    """
    parts = (str(run_seed), question_id, stage or "", str(index), str(attempt), purpose)
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)
