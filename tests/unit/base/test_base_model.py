"""The shipped base model: it loads, it looks, and it cannot read the truth in a picture's metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from actors.engines.config import TransformersEngineConfig
from actors.engines.transformers_engine import TransformersEngine
from reasoning.protocols import ContinuationRequest, Sampling
from reasoning.records import ImageRef
from stagebeam.base import WEIGHTS
from stagebeam.world.draw import draw_scene, encode_png
from stagebeam.world.scene import Scene, Thing

MEGABYTE = 2**20


def _scene(*things: Thing, seed: int = 1) -> Scene:
    return Scene(things=things, seed=seed)


ONE = _scene(
    Thing(row=0, column=0, size="big", color="red", shape="circle"),
    Thing(row=1, column=2, size="small", color="blue", shape="square"),
)
OTHER = _scene(
    Thing(row=0, column=1, size="big", color="green", shape="square"),
    Thing(row=2, column=0, size="big", color="yellow", shape="circle"),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[TransformersEngine]:
    with TransformersEngine(TransformersEngineConfig(model=str(WEIGHTS))) as found:
        yield found


def _describe(engine: TransformersEngine, png: bytes) -> tuple[str, float]:
    request = ContinuationRequest(
        prompt="Describe.",
        image=ImageRef(data=png),
        prefix="",
        stops=(),
        seeds=(0,),
        sampling=Sampling(temperature=0, max_new_tokens=64),
    )
    [reply] = asyncio.run(engine.generate([request]))
    return reply.continuations[0].text.strip(), reply.continuations[0].logprob


def test_another_image_gives_another_answer_to_the_same_question(engine: TransformersEngine) -> None:
    assert _describe(engine, encode_png(draw_scene(ONE), None))[0] == ONE.caption
    assert _describe(engine, encode_png(draw_scene(OTHER), None))[0] == OTHER.caption


def test_the_truth_in_the_metadata_changes_nothing(engine: TransformersEngine) -> None:
    picture = draw_scene(ONE)
    plain, lying = encode_png(picture, None), encode_png(picture, '{"scene": "something else"}')
    assert plain != lying
    assert _describe(engine, plain) == _describe(engine, lying)


def test_the_shipped_folder_is_complete_and_small() -> None:
    names = {path.name for path in WEIGHTS.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "curves.svg", "training.jsonl"} <= names
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 20 * MEGABYTE
