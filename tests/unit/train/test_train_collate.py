"""The tensors of a batch: what carries loss, what is padding, what is kept for the next epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from actors.engines.tiny import build_tiny_mllama
from reasoning.errors import InputError
from train.collate import Encoded, RowEncoder, collate
from train.config import TrainConfig
from train.model import open_processor, row_encoder


def _text(tokens: int, first: int = 1) -> Encoded:
    ids = torch.arange(first, first + tokens).unsqueeze(0)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


def test_padding_has_no_attention_and_no_loss() -> None:
    batch = collate([_text(3), _text(5)], pad_id=99)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 99, 99], [1, 2, 3, 4, 5]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[1, 2, 3, -100, -100], [1, 2, 3, 4, 5]]


def test_image_tensors_are_joined_and_masks_padded() -> None:
    rows = [
        {**_text(n), "pixel_values": torch.full((1, 1, 2), float(n)), "cross_attention_mask": torch.ones(1, n, 1, 1)}
        for n in (2, 3)
    ]
    batch = collate(rows, pad_id=0)
    assert batch["pixel_values"].tolist() == [[[2.0, 2.0]], [[3.0, 3.0]]]
    assert batch["cross_attention_mask"].squeeze(-1).squeeze(-1).tolist() == [[1, 1, 0], [1, 1, 1]]


def _row(name: str, response: str = "yes") -> dict[str, Any]:
    return {"id": name, "kind": "direct", "prompt": "p", "response": response}


def test_rows_are_encoded_once_while_there_is_room() -> None:
    calls: list[str] = []

    def encode(row: Any) -> Encoded:
        calls.append(row["id"])
        return _text(10)

    size = sum(t.numel() * t.element_size() for t in _text(10).values())
    encoder = RowEncoder(encode, max_tokens=16, cache_bytes=size, dtype=torch.float32)
    for name in ("a", "b", "a", "b"):
        encoder(_row(name))
    assert calls == ["a", "b", "b"]


def test_rows_of_one_id_with_different_texts_are_different_rows() -> None:
    encoder = RowEncoder(
        lambda row: _text(len(row["response"])), max_tokens=16, cache_bytes=1 << 20, dtype=torch.float32
    )
    assert encoder(_row("a", "yes"))["input_ids"].shape[1] == 3
    assert encoder(_row("a", "maybe"))["input_ids"].shape[1] == 5


def test_long_rows_are_cut_with_their_labels() -> None:
    encoder = RowEncoder(lambda row: _text(40), max_tokens=16, cache_bytes=0, dtype=torch.float32)
    encoded = encoder(_row("a"))
    assert {encoded[name].shape[1] for name in ("input_ids", "labels", "attention_mask")} == {16}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("tiny")
    build_tiny_mllama(folder)
    return TrainConfig(model=folder, data=(folder,), output=folder / "out")


def _image_row(image: dict[str, Any] | None) -> dict[str, Any]:
    return {"id": "r1", "kind": "direct", "prompt": "How many?", "response": "yes", "image": image}


def test_loss_falls_on_the_response_and_its_end_alone(tiny: TrainConfig) -> None:
    processor = open_processor(tiny)
    encoded = row_encoder(tiny, processor, torch.float32)(_image_row(None))
    kept = encoded["labels"][encoded["labels"] != -100]
    assert processor.tokenizer.decode(kept).replace(" ", "") == "yes<|eot_id|>"


def test_rows_with_and_without_image_share_a_batch(tiny: TrainConfig, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    encode = row_encoder(tiny, open_processor(tiny), torch.float32)
    picture = {"bytes": (tmp_path / "a.png").read_bytes(), "uri": None, "media_type": "image/png"}
    batch = collate([encode(_image_row(picture)), encode(_image_row(None) | {"id": "r2"})], pad_id=0)
    assert batch["pixel_values"].shape[0] == 2
    assert batch["cross_attention_mask"][0].any()
    assert not batch["cross_attention_mask"][1].any()


def test_unusable_image_names_the_row(tiny: TrainConfig) -> None:
    encode = row_encoder(tiny, open_processor(tiny), torch.float32)
    with pytest.raises(InputError, match="training row 'r1'"):
        encode(_image_row({"bytes": b"no image", "uri": None, "media_type": "image/png"}))
