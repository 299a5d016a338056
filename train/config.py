"""What one fine-tuning run is made of. No I/O: the folders named here are opened elsewhere."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from reasoning.records import RowKind


class Schedule(StrEnum):
    """How the learning rate falls after the warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


class Precision(StrEnum):
    """The number format of weights and gradients; ``auto`` is bf16 on a GPU and fp32 on a CPU."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


class Device(StrEnum):
    """Where the workers compute; ``auto`` takes GPUs when the cluster has one for each worker."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class TrainConfig(BaseModel):
    """One full-parameter fine-tuning: a model, SFT shards, an output folder and how to learn."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: Path
    """The folder of the model to start from (``config.json``, safetensors, processor, chat template)."""

    data: tuple[Path, ...] = Field(min_length=1)
    """Folders of SFT Parquet shards (the columns of ``reasoning.records.TrainingRow``)."""

    output: Path
    """The run's folder: ``checkpoints/``, ``model/`` (the export), ``history.json``, ``run.json``. With
    several nodes it lies on storage that all of them share."""

    eval_data: tuple[Path, ...] = ()
    """Folders of held-out shards; their loss is measured at the end of every epoch."""

    workers: int = Field(default=2, ge=1)
    """Training processes. A run resumes only with the number it began with."""

    device: Device = Device.AUTO
    """Where the workers compute."""

    cpus_per_worker: float = Field(default=1.0, gt=0)
    """Logical Ray CPUs each worker holds."""

    threads_per_worker: int = Field(default=1, ge=1)
    """torch threads a worker on a CPU. More threads than idle cores make it several times slower."""

    zero_stage: int = Field(default=2, ge=0, le=3)
    """DeepSpeed ZeRO: 0 shares nothing, 1 optimizer state, 2 gradients too, 3 parameters too."""

    precision: Precision = Precision.AUTO
    """The number format. On a CPU without AMX bf16 is slower than fp32."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    epochs: int = Field(default=1, ge=1)
    """Passes over the rows; ``max_steps`` may end the run earlier."""

    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps after which the run ends; None for whole epochs."""

    batch_size_per_worker: int = Field(default=16, ge=1)
    """Rows in one forward pass of one worker."""

    gradient_accumulation: int = Field(default=1, ge=1)
    """Forward passes in one optimizer step. Rows in a pass have like lengths, so that with 1 a step
    sees rows of one kind where kinds differ in length."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """The peak, reached at the end of the warm-up."""

    schedule: Schedule = Schedule.COSINE
    """The decay after the warm-up."""

    warmup_fraction: float = Field(default=0.03, ge=0, lt=1)
    """The share of all steps in which the rate rises linearly from zero."""

    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Where the decay ends, as a share of the peak."""

    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decay; norms, biases and gates (all with fewer than two dimensions) have none."""

    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's two averaging factors."""

    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this norm; 0 leaves them."""

    kind_repeats: dict[RowKind, int] = Field(default_factory=dict)
    """How often a row of a kind is seen in an epoch; 1 unless named, 0 leaves the kind out."""

    kind_weights: dict[RowKind, float] = Field(default_factory=dict)
    """How much each token of a row of a kind counts in the loss; 1 unless named. A judgement's verdict is one
    token against hundreds of an answer: without a weight it is learned late."""

    max_tokens: int = Field(default=4096, ge=16)
    """Rows longer than this are cut at the end, together with their labels."""

    shuffle_window: int = Field(default=2048, ge=1)
    """Rows a worker reshuffles together in every epoch and sorts by length into batches. All rows are put
    into one seeded order once, before the first epoch."""

    cache_bytes: int = Field(default=1 << 30, ge=0)
    """Memory a worker spends on keeping encoded rows for the next epoch."""

    seed: int = 0
    """Decides the order of rows."""

    checkpoint_every_steps: int = Field(default=200, ge=1)
    """Optimizer steps between two checkpoints; the last step always writes one."""

    checkpoints_kept: int = Field(default=2, ge=1)
    """The newest checkpoints that stay on disk."""

    max_failures: int = Field(default=3, ge=0)
    """How often the workers are started again from the newest checkpoint after one of them died."""

    progress_every_steps: int = Field(default=5, ge=1)
    """Optimizer steps between two reports of the loss."""

    @field_validator("betas")
    @classmethod
    def _betas_are_below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError(f"TrainConfig.betas must lie in [0, 1), got {value}")
        return value

    @field_validator("kind_repeats")
    @classmethod
    def _repeats_are_counts(cls, value: dict[RowKind, int]) -> dict[RowKind, int]:
        for kind, count in value.items():
            if count < 0:
                raise ValueError(f"TrainConfig.kind_repeats[{kind.value}] must be 0 or more, got {count}")
        return value

    @field_validator("kind_weights")
    @classmethod
    def _weights_are_positive(cls, value: dict[RowKind, float]) -> dict[RowKind, float]:
        for kind, weight in value.items():
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(f"TrainConfig.kind_weights[{kind.value}] must be above 0 and finite, got {weight}")
        return value

    @field_validator("learning_rate", "weight_decay", "max_grad_norm")
    @classmethod
    def _is_finite(cls, value: float, info: ValidationInfo) -> float:
        if not math.isfinite(value):
            raise ValueError(f"TrainConfig.{info.field_name} must be finite, got {value}")
        return value

    @model_validator(mode="after")
    def _window_holds_a_batch(self) -> TrainConfig:
        if self.shuffle_window < self.batch_size_per_worker:
            raise ValueError(
                f"TrainConfig.shuffle_window ({self.shuffle_window}) is smaller than batch_size_per_worker "
                f"({self.batch_size_per_worker}); a window holds at least one batch"
            )
        return self

    @property
    def window_rows(self) -> int:
        """``shuffle_window`` cut to whole batches, so that only an epoch's end leaves rows over."""
        return self.shuffle_window - self.shuffle_window % self.batch_size_per_worker

    def identity(self) -> dict[str, object]:
        """The fields that decide the result; a run resumes only where all of them are the same.

        What the folders named here hold is not among them: the launcher adds digests of it.
        """
        without_effect = {
            "model",
            "data",
            "eval_data",
            "output",
            "cpus_per_worker",
            "threads_per_worker",
            "cache_bytes",
            "checkpoints_kept",
            "max_failures",
            "progress_every_steps",
        }
        fields: dict[str, object] = self.model_dump(mode="json", exclude=without_effect)
        return fields
