"""DeepSpeed's settings and its start in a worker. Nothing here knows Ray."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Any

import torch

from train.config import Precision, TrainConfig


def deepspeed_settings(config: TrainConfig, *, on_gpu: bool) -> dict[str, Any]:
    """The dict DeepSpeed is initialised with."""
    bf16 = use_bf16(config, on_gpu=on_gpu)
    return {
        "train_micro_batch_size_per_gpu": config.batch_size_per_worker,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": {
            "stage": config.zero_stage,
            "overlap_comm": on_gpu,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "bf16": {"enabled": bf16},
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": config.learning_rate,
                "betas": list(config.betas),
                "weight_decay": config.weight_decay,
                # DeepSpeed's own Adam is compiled at start: minutes on a CPU, and nvcc on a GPU.
                "torch_adam": True,
                "fused": True,
            },
        },
        "steps_per_print": 1 << 40,
        "wall_clock_breakdown": False,
    }


def use_bf16(config: TrainConfig, *, on_gpu: bool) -> bool:
    """Whether weights are bf16: as asked for, or on a GPU."""
    return config.precision is Precision.BF16 or (config.precision is Precision.AUTO and on_gpu)


def parameter_groups(parameters: Iterable[torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """All trainable parameters in two groups: matrices with weight decay, the rest (norms, biases, gates) without.

    Under ZeRO-3 a parameter's own shape is empty; its full shape is ``ds_shape``.
    """
    decayed: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for parameter in parameters:
        if parameter.requires_grad:
            shape = getattr(parameter, "ds_shape", parameter.shape)
            (decayed if len(shape) >= 2 else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def prepare_process(config: TrainConfig, *, on_gpu: bool) -> Any:
    """Set up this worker process and join its process group; answers the deepspeed module.

    On a CPU the shared-memory collective is switched off: it is compiled for 40 s and more at the
    start and leaves 69 MB a rank in /dev/shm; gloo alone gives the same losses.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|deepspeed)\b.*")
    if not on_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
        torch.set_num_threads(config.threads_per_worker)
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel("WARNING")
    operators = getattr(deepspeed.ops, "__compatible_ops__", None)
    if not on_gpu and operators is not None:
        operators["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(verbose=False)
    return deepspeed
