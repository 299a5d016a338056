"""A fine-tuning run with real Ray Train and DeepSpeed: it learns, survives a killed worker, exports."""

from __future__ import annotations

import io
import signal
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoModelForImageTextToText

from actors.chat import load_processor
from actors.engines.tiny import build_tiny_mllama
from cluster.connect import RayCluster
from reasoning.errors import OutputMismatchError
from train.checkpoints import complete_checkpoints
from train.config import TrainConfig
from train.data import ordered_rows, survey
from train.launch import run_training
from train.progress import TrainProgress

COLOURS = ("red", "green", "blue", "yellow")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("uri", pa.string()), ("media_type", pa.string())])),
        ("prompt", pa.string()),
        ("response", pa.string()),
    ]
)


def _row(number: int) -> dict[str, Any]:
    """Every fourth row is a short one, every ninth has no picture."""
    colour = COLOURS[number % 4 if number % 9 else 0]
    image = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(image).ellipse((4, 4, 28, 28), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    is_short = number % 4 == 3
    return {
        "id": f"r{number}",
        "kind": "direct" if is_short else "four_stage",
        "image": {"bytes": buffer.getvalue(), "uri": None, "media_type": "image/png"} if number % 9 else None,
        "prompt": f"What colour is shape {number}?",
        "response": colour if is_short else f"<CAPTION> The image shows a {colour} circle. </CAPTION> {colour}",
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model, training shards and held-out shards."""
    root = tmp_path_factory.mktemp("train")
    build_tiny_mllama(root / "model")
    for name, numbers in {"sft/a": range(100), "sft/b": range(100, 200), "held/a": range(200, 221)}.items():
        (root / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist([_row(n) for n in numbers], schema=SCHEMA), root / f"{name}.parquet")
    return {"model": root / "model", "sft": root / "sft", "held": root / "held", "root": root}


def _config(folders: dict[str, Path], name: str, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "model": folders["model"],
        "data": (folders["sft"],),
        "output": folders["root"] / name,
        "batch_size_per_worker": 8,
        "learning_rate": 3e-3,
        "epochs": 3,
        "checkpoint_every_steps": 5,
        "progress_every_steps": 2,
        "device": "cpu",
    }
    return TrainConfig(**{**fields, **changes})


class _KillOne:
    """Kills a training worker with SIGKILL, once, as soon as a checkpoint is whole."""

    def __init__(self, output: Path) -> None:
        self.seen: list[TrainProgress] = []
        self.killed: int | None = None
        self._checkpoints = output / "checkpoints"

    def __call__(self, progress: TrainProgress) -> None:
        self.seen.append(progress)
        if self.killed is None and complete_checkpoints(self._checkpoints):
            workers = [
                p for p in psutil.Process().children(recursive=True) if p.cmdline()[:1] == ["ray::RayTrainWorker"]
            ]
            workers[-1].send_signal(signal.SIGKILL)
            self.killed = workers[-1].pid


def _answer(model_dir: Path) -> str:
    """What the exported model says to a training row, greedily."""
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    processor = load_processor(model_dir)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What colour is shape 1?"}]}]
    image = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(image).ellipse((4, 4, 28, 28), fill="green")
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(images=[image], text=text, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(**inputs, max_new_tokens=20, do_sample=False)
    return str(processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :]))


# About 55 s at a load of five on two cores; among many other jobs the two starts of the workers take minutes.
@pytest.mark.timeout(600)
def test_run_learns_and_goes_on_after_a_worker_is_killed(folders: dict[str, Path], ray_local: RayCluster) -> None:
    config = _config(folders, "killed")
    kill = _KillOne(config.output)
    summary = run_training(config, kill)

    assert kill.killed is not None
    assert summary.restarts == 1
    assert summary.steps == 36
    steps = [step for step, _ in summary.losses]
    assert steps == sorted(set(steps))
    assert steps[-1] == 36
    assert summary.losses[-1][1] < 0.5 * summary.losses[0][1]
    assert next(p.step for p in kill.seen if p.restarts == 0) == 2
    assert min(p.step for p in kill.seen if p.restarts == 1) > 5
    assert len(complete_checkpoints(config.output / "checkpoints")) == config.checkpoints_kept
    assert "The image shows a" in _answer(summary.model_dir)

    again = run_training(config)
    assert (again.losses, again.model_dir) == (summary.losses, summary.model_dir)
    with pytest.raises(OutputMismatchError, match="learning_rate"):
        run_training(_config(folders, "killed", learning_rate=1e-3))


def test_sharded_run_in_bf16_exports_whole_weights(folders: dict[str, Path], ray_local: RayCluster) -> None:
    config = _config(
        folders,
        "sharded",
        zero_stage=3,
        precision="bf16",
        gradient_accumulation=2,
        gradient_checkpointing=True,
        max_steps=4,
        eval_data=(folders["held"],),
    )
    summary = run_training(config)
    assert summary.steps == 4
    assert [step for step, _ in summary.eval_losses] == [4]
    base = AutoModelForImageTextToText.from_pretrained(folders["model"]).state_dict()
    trained = AutoModelForImageTextToText.from_pretrained(summary.model_dir).state_dict()
    assert {name: tensor.shape for name, tensor in trained.items()} == {n: t.shape for n, t in base.items()}
    assert any(not torch.equal(trained[name].float(), tensor) for name, tensor in base.items())


def test_rows_are_ordered_alike_by_one_process_and_by_the_cluster(
    folders: dict[str, Path], ray_local: RayCluster
) -> None:
    found = survey([folders["sft"]])
    here, spread = (
        [row["id"] for row in ordered_rows(found, seed=3, repeats={}, workers=1, small_bytes=size).take_all()]
        for size in (1 << 30, 0)
    )
    assert here == spread
    assert sorted(here) != here
    assert len(here) == 200
