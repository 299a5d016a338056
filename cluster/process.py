"""What a process of ours does about itself. Knows nothing of what runs in it."""

from __future__ import annotations

import gc


def keep_what_is_loaded() -> None:
    """Spare the garbage collector all that is loaded now; for a process that loads once, works and ends.

    At its end Python looks through every object once more. With torch and transformers loaded that
    took 1.5 s of CPU time, for each command and each of Ray's workers.
    """
    gc.freeze()
