"""What each training worker does: restore, step, report, checkpoint, export. Runs inside Ray Train."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import ray
import ray.train
import torch
import torch.distributed as dist

from cluster.storage import write_json_atomic
from reasoning.errors import TrainingError
from train.checkpoints import TAG, checkpoint_name, complete_checkpoints, write_marker
from train.collate import Encoded, collate
from train.data import epoch_batches, plain_batches
from train.deepspeed_setup import deepspeed_settings, prepare_process
from train.export import export_model
from train.losses import batch_loss
from train.model import load_engine, open_processor, pad_token, row_encoder
from train.progress import TrainProgress
from train.schedule import learning_rate
from train.task import CHECKPOINT_FOLDER, HISTORY_FILE, MODEL_FOLDER, WorkerTask

_ENCODING_THREADS = 4
T = TypeVar("T")
R = TypeVar("R")


@dataclass
class History:
    """The losses so far, the rows seen and the seconds spent on them; kept in every checkpoint."""

    losses: list[tuple[int, float]] = field(default_factory=list)
    eval_losses: list[tuple[int, float]] = field(default_factory=list)
    samples: int = 0
    seconds: float = 0.0


def train_worker(task: WorkerTask) -> None:
    """One worker's whole life, from the newest whole checkpoint to the export."""
    deepspeed = prepare_process(task.config, on_gpu=task.use_gpu)
    engine = load_engine(deepspeed, task.config, deepspeed_settings(task.config, on_gpu=task.use_gpu))
    worker = _Worker(task, engine)
    worker.restore()
    worker.run()
    worker.finish()


class _Worker:
    """The state of one worker between steps."""

    def __init__(self, task: WorkerTask, engine: Any) -> None:
        self.config, self.plan, self.board = task.config, task.plan, task.board
        self.use_gpu = task.use_gpu
        self.engine = engine
        self.rank, self.workers = dist.get_rank(), dist.get_world_size()
        self.processor = open_processor(self.config)
        self.encode = row_encoder(self.config, self.processor, next(engine.module.parameters()).dtype)
        self.pad_id = pad_token(self.processor)
        self.step = 0
        self.history = History()
        self.restarts: int = ray.get(self.board.started.remote()) if self.rank == 0 else 0
        self._loss = torch.zeros((), device=engine.device)
        self._passes = 0
        self._clock = time.monotonic()

    def restore(self) -> None:
        """Load the newest whole checkpoint, if there is one."""
        found = complete_checkpoints(self.config.output / CHECKPOINT_FOLDER)
        if not found:
            return
        loaded, state = self.engine.load_checkpoint(str(found[-1]), tag=TAG)
        if loaded is None:
            raise TrainingError(f"{found[-1]} holds no DeepSpeed state; remove this folder to go on from an older one")
        self.step = state["step"]
        self.history = History(**state["history"])

    def run(self) -> None:
        """Step until the plan's last step."""
        shard = ray.train.get_dataset_shard("train")
        self._clock = time.monotonic()
        while self.step < self.plan.total_steps:
            epoch, done = self.plan.position(self.step)
            skip = done * self.plan.gradient_accumulation
            tables = shard.iter_batches(batch_size=self.config.window_rows, batch_format="pyarrow")
            batches = epoch_batches(tables, self.config, epoch=epoch, rank=self.rank, skip=skip)
            for batch in self._tensors(itertools.islice(batches, self.plan.passes_per_epoch - skip)):
                self._pass(batch)
                if self._passes_done_in_step() and self._after_step(epoch):
                    return
            if self.plan.position(self.step)[0] == epoch:
                raise TrainingError(f"worker {self.rank} ran out of rows at step {self.step}, in epoch {epoch}")

    def finish(self) -> None:
        """Export the model and, on rank 0, write the history."""
        export_model(self.engine, self.processor, self.config.output / MODEL_FOLDER)
        if self.rank == 0:
            write_json_atomic(self.config.output / HISTORY_FILE, {"steps": self.step, **asdict(self.history)})
        dist.barrier()

    def _pass(self, batch: Encoded) -> None:
        """Forward, backward and, at the end of a step's passes, the update."""
        rate = learning_rate(self.config, self.step + 1, self.plan.total_steps)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        loss = batch_loss(self.engine, batch)
        self.engine.backward(loss)
        self.engine.step()
        self._loss += loss.detach()
        self._passes += 1

    def _passes_done_in_step(self) -> bool:
        """Whether the last pass ended an optimizer step."""
        return self._passes % self.plan.gradient_accumulation == 0

    def _after_step(self, epoch: int) -> bool:
        """Count the step; report, evaluate and checkpoint where due. True after the run's last step."""
        self.step += 1
        is_last = self.step == self.plan.total_steps
        ends_epoch = is_last or self.plan.position(self.step)[1] == 0
        saves = is_last or self.step % self.config.checkpoint_every_steps == 0
        evaluates = ends_epoch and bool(self.config.eval_data)
        if saves or evaluates or self.step % self.config.progress_every_steps == 0:
            self._report(epoch)
        if evaluates:
            self._evaluate()
        if saves:
            self._checkpoint()
        if saves or evaluates:
            self._clock = time.monotonic()
        return is_last

    def _report(self, epoch: int) -> None:
        """The mean loss since the last report, over all workers, to the history and the board."""
        mean = self._loss / self._passes
        dist.all_reduce(mean)
        loss = float(mean) / self.workers
        samples = self._passes * self.config.batch_size_per_worker * self.workers
        seconds = time.monotonic() - self._clock
        self.history.losses.append((self.step, loss))
        self.history.samples += samples
        self.history.seconds += seconds
        self._loss.zero_()
        self._passes = 0
        self._clock = time.monotonic()
        if self.rank == 0:
            self.board.post.remote(
                TrainProgress(
                    step=self.step,
                    total_steps=self.plan.total_steps,
                    loss=loss,
                    learning_rate=learning_rate(self.config, self.step, self.plan.total_steps),
                    samples_per_second=samples / max(seconds, 1e-9),
                    epoch=epoch,
                    restarts=self.restarts,
                )
            )

    @torch.no_grad()
    def _evaluate(self) -> None:
        """The mean loss of the held-out rows, each batch weighing as many rows as it has."""
        self.engine.eval()
        total = torch.zeros(2, device=self.engine.device)
        tables = ray.train.get_dataset_shard("eval").iter_batches(
            batch_size=self.config.window_rows, batch_format="pyarrow"
        )
        for batch in self._tensors(plain_batches(tables, self.config.batch_size_per_worker)):
            rows = batch["input_ids"].shape[0]
            loss = batch_loss(self.engine, batch)
            total += torch.stack([loss * rows, torch.tensor(float(rows), device=total.device)])
        self.engine.train()
        dist.all_reduce(total)
        self.history.eval_losses.append((self.step, float(total[0] / total[1].clamp(min=1))))

    def _checkpoint(self) -> None:
        """Every worker writes its part; Ray Train joins them and drops old checkpoints."""
        with tempfile.TemporaryDirectory() as folder:
            state = {"step": self.step, "history": asdict(self.history)}
            self.engine.save_checkpoint(folder, tag=TAG, client_state=state)
            write_marker(Path(folder), rank=self.rank, workers=self.workers)
            ray.train.report(
                {"step": self.step, "loss": self.history.losses[-1][1]},
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=checkpoint_name(self.step),
            )

    def _tensors(self, batches: Iterable[Sequence[Mapping[str, Any]]]) -> Iterator[Encoded]:
        """Encoded, padded batches on the worker's device; on a GPU prepared ahead by threads.

        On a CPU the threads would only take turns with the model.
        """

        def prepare(rows: Sequence[Mapping[str, Any]]) -> Encoded:
            return collate([self.encode(row) for row in rows], self.pad_id)

        if not self.use_gpu:
            yield from map(prepare, batches)
            return
        for batch in ahead(prepare, batches, threads=_ENCODING_THREADS):
            yield {name: tensor.to(self.engine.device, non_blocking=True) for name, tensor in batch.items()}


def ahead(function: Callable[[T], R], items: Iterable[T], *, threads: int) -> Iterator[R]:
    """``map(function, items)``, in order, with up to twice ``threads`` results made in advance."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
