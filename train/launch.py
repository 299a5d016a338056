"""Starts a fine-tuning run on the Ray that is connected, follows it and answers with its summary."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.connect import RayCluster, ray_session, require_cpus
from cluster.storage import RunFolder, read_json
from reasoning.errors import ConfigError, InputError, TrainingError
from train.checkpoints import keep_newest
from train.config import Device, TrainConfig
from train.data import Survey, ordered_rows, survey
from train.export import is_exported
from train.progress import BoardReader, ProgressBoard, TrainProgress, TrainSummary
from train.schedule import Plan, plan_run
from train.task import CHECKPOINT_FOLDER, HISTORY_FILE, MODEL_FOLDER, WorkerTask

_HASHED_BYTES = 64 << 20


def run_training(
    config: TrainConfig, on_progress: Callable[[TrainProgress], None] = lambda progress: None
) -> TrainSummary:
    """Fine-tune ``config.model`` on ``config.data``, on the Ray that is connected, else on one of its own.

    A run that was interrupted, by the death of workers or of the driver, goes on from its newest
    whole checkpoint; a finished one is answered at once. ``on_progress`` is called from another thread.
    Raises InputError for a model or shards that cannot be used, ConfigError when the cluster is too
    small, OutputMismatchError when the output folder is another run's, TrainingError when the workers
    failed more than ``config.max_failures`` times.
    """
    begin = time.monotonic()
    config = _absolute(config)
    if not (config.model / "config.json").is_file():
        raise InputError(f"TrainConfig.model: {config.model} is no model folder: there is no config.json in it")
    found = survey(config.data)
    held_out = survey(config.eval_data) if config.eval_data else None
    plan = plan_run(config, found.rows_per_epoch(config.kind_repeats))
    identity = {
        **config.identity(),
        "model_digest": _model_digest(config.model),
        "data_digest": found.digest,
        "eval_digest": held_out.digest if held_out else None,
    }
    restarts = 0
    with RunFolder(config.output, kind="training", identity=identity):
        if not _is_finished(config):
            with ray_session(num_cpus=math.ceil(config.workers * config.cpus_per_worker) + 1) as cluster:
                restarts = _train(config, plan, found, held_out, on_progress, cluster)
        return _summary(config, found, restarts=restarts, seconds=time.monotonic() - begin)


def _train(
    config: TrainConfig,
    plan: Plan,
    found: Survey,
    held_out: Survey | None,
    on_progress: Callable[[TrainProgress], None],
    cluster: RayCluster,
) -> int:
    """Run the workers to the end; answers how often they were started again."""
    use_gpu = _choose_gpu(config, cluster)
    require_cpus(cluster, config.workers * config.cpus_per_worker, wanted_by="TrainConfig.workers x cpus_per_worker")
    # A worker that dies is noticed at the next poll; the default is 2 s.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    # After the default of 60 s a busy machine's slow start would be given up and begun anew, again and again.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    datasets = {
        "train": ordered_rows(found, seed=config.seed, repeats=config.kind_repeats, workers=config.workers),
    }
    if held_out is not None:
        datasets["eval"] = ordered_rows(held_out, seed=config.seed, repeats={}, workers=config.workers)
    board = ray.remote(num_cpus=0)(ProgressBoard).remote()
    trainer = _trainer(WorkerTask(config=config, plan=plan, use_gpu=use_gpu, board=board), datasets)
    try:
        with BoardReader(lambda: ray.get(board.take.remote()), on_progress), _own_interrupts():
            trainer.fit()
        restarts: int = ray.get(board.restarts.remote())
    except ray.train.TrainingFailedError as error:
        raise TrainingError(_failure_text(config, error)) from error
    finally:
        ray.kill(board)
    keep_newest(config.output / CHECKPOINT_FOLDER, config.checkpoints_kept)
    return restarts


def _trainer(task: WorkerTask, datasets: dict[str, Any]) -> TorchTrainer:
    config = task.config
    options = ray.data.ExecutionOptions(preserve_order=True)
    environment = {
        "OMP_NUM_THREADS": str(config.threads_per_worker),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        # Nothing is compiled here; without this DeepSpeed loads torch's compiler for an optimizer that is not used,
        # which took a second of CPU time in each worker.
        "TORCHDYNAMO_DISABLE": "1",
        # glibc gives every large tensor back to the system at once; keeping them took page faults to a third and
        # 4 % off the CPU time of a step (2.3 M parameters, 16 rows of 100 tokens, one thread).
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    }
    return TorchTrainer(
        _worker,
        train_loop_config={"task": task},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.workers,
            use_gpu=task.use_gpu,
            resources_per_worker={"CPU": config.cpus_per_worker, **({"GPU": 1} if task.use_gpu else {})},
        ),
        torch_config=TorchConfig(backend=None),
        run_config=ray.train.RunConfig(
            name=CHECKPOINT_FOLDER,
            storage_path=str(config.output),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.checkpoints_kept),
            worker_runtime_env={"env_vars": environment},
        ),
        datasets=datasets,
        # Without locality the same rows go to the same worker in every epoch and after every restart.
        dataset_config=ray.train.DataConfig(execution_options=options, enable_shard_locality=False),
    )


def _worker(loop_config: dict[str, Any]) -> None:
    """The entry in a worker; torch and DeepSpeed are loaded there, not in the driver."""
    from train.loop import train_worker

    train_worker(loop_config["task"])


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Give Ctrl-C back to the caller: Ray Train ends the process with code 0 and keeps its handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGINT, handler)


def _absolute(config: TrainConfig) -> TrainConfig:
    """The config with absolute paths; workers run in other folders."""
    return config.model_copy(
        update={
            "model": config.model.resolve(),
            "data": tuple(path.resolve() for path in config.data),
            "eval_data": tuple(path.resolve() for path in config.eval_data),
            "output": config.output.resolve(),
        }
    )


def _choose_gpu(config: TrainConfig, cluster: RayCluster) -> bool:
    if config.device is Device.CPU:
        return False
    if cluster.gpus >= config.workers:
        return True
    if config.device is Device.CUDA:
        raise ConfigError(
            f"TrainConfig.device is cuda and workers is {config.workers}, but the Ray cluster has {cluster.gpus:g} "
            "GPUs; lower TrainConfig.workers or set TrainConfig.device to cpu"
        )
    return False


def _model_digest(folder: Path) -> str:
    """A hash over the model's files: small ones by content, large ones by size."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in {".json", ".safetensors", ".jinja"}):
        size = path.stat().st_size
        digest.update(f"{path.name}/{size}/".encode())
        if size <= _HASHED_BYTES:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _is_finished(config: TrainConfig) -> bool:
    return is_exported(config.output / MODEL_FOLDER) and (config.output / HISTORY_FILE).is_file()


def _summary(config: TrainConfig, found: Survey, *, restarts: int, seconds: float) -> TrainSummary:
    if not _is_finished(config):
        raise TrainingError(f"{config.output}: the workers ended without an export")
    history = read_json(config.output / HISTORY_FILE)
    return TrainSummary(
        model_dir=config.output / MODEL_FOLDER,
        losses=tuple((int(step), float(loss)) for step, loss in history["losses"]),
        eval_losses=tuple((int(step), float(loss)) for step, loss in history["eval_losses"]),
        steps=int(history["steps"]),
        seconds=seconds,
        samples_per_second=history["samples"] / max(history["seconds"], 1e-9),
        restarts=restarts,
        rows=found.rows,
    )


def _failure_text(config: TrainConfig, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = lines[-1] if lines else type(error).__name__
    return (
        f"training in {config.output} failed ({cause}); the newest checkpoint is kept, run the same command again to "
        f"go on, and raise TrainConfig.max_failures (now {config.max_failures}) if workers die now and then"
    )
