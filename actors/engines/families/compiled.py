"""Steps of one token a row through torch.compile: fewer, larger kernels, the same numbers up to rounding."""

from __future__ import annotations

from typing import Any

import torch

from actors.engines.families.base import Family, Step
from actors.engines.kv import KvRows
from reasoning.errors import EngineError

# Numbers that no dimension of a model has: where two sizes are equal, torch takes them to be equal
# always, and compiles anew for the first batch in which they are not.
_ROWS, _COLUMNS = 11, 37


def compile_step(family: Family[Any], *, backend: str = "inductor") -> None:
    """Let the family's steps of one token a row run compiled, for any number of rows and columns.

    Compiles at once, half a minute for each of two graphs unless torch finds them in its cache on
    disk: one row by itself is a case of its own. ``backend`` is torch's, ``eager`` to trace alone.
    Raises EngineError when it cannot.
    """
    family.decoder = torch.compile(family.decoder, dynamic=True, backend=backend)
    for rows in (_ROWS, 1):
        try:
            _run(family, rows)
        except Exception as error:
            raise EngineError(
                f"cannot compile the step of generation: {error}; a CPU needs a C++ compiler (g++) for it. "
                "Set compile to false to run without"
            ) from error


# The worker's tensors are made in this mode too: others would be a case of their own.
@torch.inference_mode()
def _run(family: Family[Any], rows: int) -> None:
    device = family.kv_shape.device
    step = Step(
        ids=torch.zeros(rows, 1, dtype=torch.long, device=device),
        positions=torch.full((rows, 1), _COLUMNS - 1, device=device),
        last=torch.zeros(rows, dtype=torch.long, device=device),
        columns=_COLUMNS,
    )
    kv, images = KvRows(family.kv_shape, _ROWS + 2, _COLUMNS + 4), family.new_image_slots(_ROWS + 2)
    family.forward(step, kv, images)
