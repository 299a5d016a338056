"""Models whose images stand among the text tokens: encoded, batched and taken a step further."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_families import KINDS, build_tiny
from transformers import AutoModelForImageTextToText

from reasoning.errors import InputError
from train.collate import collate
from train.config import TrainConfig
from train.losses import batch_loss
from train.model import open_processor, pad_token, row_encoder


def _row(name: str, size: tuple[int, int] | None, response: str) -> dict[str, Any]:
    image = None
    if size is not None:
        stream = io.BytesIO()
        Image.new("RGB", size, "red").save(stream, "PNG")
        image = {"bytes": stream.getvalue(), "uri": None, "media_type": "image/png"}
    return {"id": name, "kind": "direct", "prompt": "How many?", "response": response, "image": image}


def _config(folder: Path, **fields: Any) -> TrainConfig:
    return TrainConfig(model=folder, data=(folder,), output=folder / "out", **fields)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_on_images_of_different_sizes_lowers_the_loss(kind: str, tmp_path: Path) -> None:
    build_tiny(kind, tmp_path)
    config = _config(tmp_path)
    processor = open_processor(config)
    encode = row_encoder(config, processor, torch.float32)
    # Of different numbers of tokens, tiles and patches.
    rows = [
        encode(_row("a", (60, 40), "3")),
        encode(_row("b", (20, 90), "no, there are 2")),
        encode(_row("c", (9, 9), "1")),
    ]
    batch = collate(rows, pad_token(processor))
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    first = batch_loss(model, batch)
    first.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "patch_embed" in n)
    optimizer.step()
    assert batch_loss(model, batch) < first
    # Padding changes nothing: alone, the rows have the same loss on average over their tokens.
    with torch.no_grad():
        counts = [int((row["labels"][:, 1:] != -100).sum()) for row in rows]
        alone = [float(batch_loss(model, collate([row], 0))) for row in rows]
        whole = sum(loss * count for loss, count in zip(alone, counts, strict=True)) / sum(counts)
        assert float(batch_loss(model, batch)) == pytest.approx(whole, rel=1e-4)


def test_the_loss_falls_on_the_response_after_the_image(tmp_path: Path) -> None:
    build_tiny("qwen3_vl", tmp_path)
    processor = open_processor(_config(tmp_path))
    encoded = row_encoder(_config(tmp_path), processor, torch.float32)(_row("a", (60, 40), "yes"))
    kept = encoded["labels"][encoded["labels"] != -100]
    assert processor.tokenizer.decode(kept) == "yes<|im_end|>"
    assert encoded["labels"].shape == encoded["input_ids"].shape == encoded["mm_token_type_ids"].shape


def test_rows_without_image_and_cut_images_are_refused_by_name(tmp_path: Path) -> None:
    build_tiny("idefics3", tmp_path)
    config = _config(tmp_path)
    with pytest.raises(InputError, match="'x' has no image"):
        row_encoder(config, open_processor(config), torch.float32)(_row("x", None, "yes"))
    short = _config(tmp_path, max_tokens=16)
    with pytest.raises(InputError, match=r"'y': \d+ tokens of its image lie beyond max_tokens 16"):
        row_encoder(short, open_processor(short), torch.float32)(_row("y", (40, 40), "yes"))
