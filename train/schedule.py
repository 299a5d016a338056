"""How many steps a run has and which learning rate each of them takes. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reasoning.errors import InputError
from train.config import Schedule, TrainConfig


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """The rate of optimizer step ``step``, counted from 1: a linear rise, then the decay.

    The warm-up's last step has the peak, the last step of all has ``final_fraction`` of it.
    """
    warmup = round(config.warmup_fraction * total_steps)
    if step <= warmup:
        return config.learning_rate * step / warmup
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    match config.schedule:
        case Schedule.COSINE:
            share = 0.5 * (1.0 + math.cos(math.pi * progress))
        case Schedule.LINEAR:
            share = 1.0 - progress
        case Schedule.CONSTANT:
            return config.learning_rate
    return config.learning_rate * (config.final_fraction + (1.0 - config.final_fraction) * share)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The shape of a run: how many forward passes a worker makes and how many optimizer steps."""

    passes_per_epoch: int
    gradient_accumulation: int
    total_steps: int

    @property
    def steps_per_epoch(self) -> int:
        return self.passes_per_epoch // self.gradient_accumulation

    def position(self, step: int) -> tuple[int, int]:
        """Where the pass after ``step`` finished optimizer steps lies: epoch, and steps done in it."""
        return divmod(step, self.steps_per_epoch)


def plan_run(config: TrainConfig, rows: int) -> Plan:
    """The plan for ``rows`` rows an epoch (repeats counted).

    Every worker gets the same number of rows and fills whole optimizer steps; what is left over is
    not seen in that epoch. Raises InputError when the rows do not fill one step.
    """
    step_rows = config.batch_size_per_worker * config.gradient_accumulation
    steps_per_epoch = rows // config.workers // step_rows
    if steps_per_epoch == 0:
        raise InputError(
            f"{rows} training rows do not fill one optimizer step of {step_rows * config.workers} rows "
            f"({config.workers} workers x batch {config.batch_size_per_worker} x accumulation "
            f"{config.gradient_accumulation}); lower TrainConfig.batch_size_per_worker or give more data"
        )
    total = steps_per_epoch * config.epochs
    return Plan(
        passes_per_epoch=steps_per_epoch * config.gradient_accumulation,
        gradient_accumulation=config.gradient_accumulation,
        total_steps=total if config.max_steps is None else min(total, config.max_steps),
    )
