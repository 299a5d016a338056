"""Rows with earlier turns: the tokens that a service makes of the same conversation, loss on the response alone."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny_families import build_tiny
from transformers import AutoModelForImageTextToText

from actors.chat import encode, image_facts, is_expanded
from actors.engines.tiny import build_tiny_mllama
from actors.engines.transformers_engine import TransformersEngine, TransformersEngineConfig
from actors.images import load_image
from pipelines.export import training_rows
from pipelines.judgements import JudgementConfig
from pipelines.schemas import TRAINING_SCHEMA, training_to_row
from reasoning.errors import InputError
from reasoning.protocols import ChoiceRequest, ContinuationRequest
from reasoning.records import ImageRef, Question, RowKind, Turn
from reasoning.search.config import SearchConfig, Strategy
from reasoning.search.run import run_search
from reasoning.stages import FourStages
from reasoning.testing import ScriptedEngine
from serve.chat_request import parse_chat_request
from serve.config import ServeConfig
from serve.image_parts import read_image_url
from train.collate import Encoded, RowEncoder
from train.config import TrainConfig
from train.data import HISTORY, epoch_batches, ordered_table, survey
from train.model import open_processor, row_encoder

STAGES = FourStages(summary="I count.", caption="A red square.", reasoning="There is one.", conclusion="1")
FIRST, SECOND = Turn(question="Is there a circle?", answer="no"), Turn(question="What then?", answer="a red square")
COUNTS = {kind.value: 1 for kind in RowKind}


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(stream, "PNG")
    return stream.getvalue()


QUESTION = Question(id="q", question="How many?", image=ImageRef(data=_png()), history=(FIRST, SECOND))


def _row(question: Question = QUESTION, kind: RowKind = RowKind.FOUR_STAGE) -> dict[str, Any]:
    """What training reads of an exported row."""
    made, _ = training_rows(question, STAGES, None, kinds=[kind], judgements=JudgementConfig(), index=0)
    return dict(pa.Table.from_pylist([training_to_row(made[0])], schema=TRAINING_SCHEMA).to_pylist()[0])


def _served() -> ContinuationRequest:
    """What a service asks its engine when a client sends the conversation; its own answers were conclusions."""
    url = f"data:image/png;base64,{base64.b64encode(_png()).decode()}"
    opening = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": FIRST.question}]
    messages = [
        {"role": "user", "content": opening},
        {"role": "assistant", "content": FIRST.answer},
        {"role": "user", "content": SECOND.question},
        {"role": "assistant", "content": SECOND.answer},
        {"role": "user", "content": "How many?"},
    ]
    task = parse_chat_request(
        {"model": "stagebeam", "messages": messages}, ServeConfig(model=Path("model")), read_image_url
    )
    engine = ScriptedEngine(lambda request, index: STAGES.render())
    config = SearchConfig(strategy=Strategy.GREEDY)
    asyncio.run(run_search(task.question, config, generator=engine, clock=lambda: 0.0))
    return engine.written[0]


def _tiny(kind: str, folder: Path) -> TrainConfig:
    build_tiny_mllama(folder) if kind == "mllama" else build_tiny(kind, folder)
    return TrainConfig(model=folder, data=(folder,), output=folder / "out")


@pytest.mark.parametrize("kind", ["mllama", "llava", "idefics3", "qwen2_5_vl"])
def test_training_has_the_tokens_of_the_served_conversation(kind: str, tmp_path: Path) -> None:
    config = _tiny(kind, tmp_path)
    processor = open_processor(config)
    encoded = row_encoder(config, processor, torch.float32)(_row())
    request = _served()
    assert request.image is not None
    layout = image_facts(processor, load_image(request.image)).layout if is_expanded(processor) else None

    def served(prefix: str) -> list[int]:
        has_image = request.image is not None
        return encode(
            processor, request.prompt, prefix=prefix, history=request.history, has_image=has_image, layout=layout
        )

    ids, labels = encoded["input_ids"][0].tolist(), encoded["labels"][0].tolist()
    start = len(served(request.prefix))
    assert ids[:start] == served(request.prefix)
    assert ids == [*served(STAGES.render()), processor.tokenizer.eos_token_id]
    # Earlier answers are read, not taught.
    assert labels == [-100] * start + ids[start:]
    text = processor.tokenizer.decode(ids)
    parts = [processor.image_token, FIRST.question, FIRST.answer, SECOND.question, SECOND.answer, "How many?"]
    assert sorted(parts, key=text.index) == parts


def test_the_trained_model_reads_what_the_engine_does(tmp_path: Path) -> None:
    config = _tiny("mllama", tmp_path)
    encoded = row_encoder(config, open_processor(config), torch.float32)(_row())
    start = int((encoded["labels"][0] != -100).nonzero()[0])
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    inputs = {name: tensor for name, tensor in encoded.items() if name != "labels"}
    with torch.no_grad():
        after = torch.log_softmax(model(**inputs).logits[0, start - 1], dim=-1)
    request = _served()
    options = ("yes", "no")
    with TransformersEngine(TransformersEngineConfig(model=str(tmp_path))) as engine:
        tokens = _first_tokens(config, options)
        asked = [
            ChoiceRequest(prompt=request.prompt, image=request.image, prefix="", options=options, history=history)
            for history in (request.history, ())
        ]
        with_turns, without = asyncio.run(engine.choose(asked))
    assert list(with_turns.logprobs) == pytest.approx(after[tokens].tolist(), abs=1e-3)
    assert list(without.logprobs) != pytest.approx(after[tokens].tolist(), abs=1e-2)


def _first_tokens(config: TrainConfig, options: tuple[str, ...]) -> list[int]:
    tokenizer = open_processor(config).tokenizer
    return [int(tokenizer(option, add_special_tokens=False)["input_ids"][0]) for option in options]


@pytest.mark.parametrize("with_column", [True, False])
def test_a_row_without_history_is_encoded_as_ever(with_column: bool, tmp_path: Path) -> None:
    config = _tiny("mllama", tmp_path)
    processor = open_processor(config)
    row = _row(Question(id="q", question="How many?", image=QUESTION.image), RowKind.DIRECT)
    if not with_column:
        del row["history"]
    encoded = row_encoder(config, processor, torch.float32)(row)
    prefix = [*encode(processor, "How many?", prefix="1", has_image=True), processor.tokenizer.eos_token_id]
    assert encoded["input_ids"][0].tolist() == prefix


def test_rows_that_differ_in_earlier_turns_alone_are_encoded_apart() -> None:
    def encode_row(row: Any) -> Encoded:
        return {"input_ids": torch.ones(1, 1 + len(row["history"] or ()), dtype=torch.long)}

    encoder = RowEncoder(encode_row, max_tokens=16, cache_bytes=1 << 20, dtype=torch.float32)
    rows = [_row() | {"history": history} for history in (None, _row()["history"][:1], _row()["history"])]
    assert [encoder(row)["input_ids"].shape[1] for row in rows] == [1, 2, 3]


def _shard(path: Path, rows: list[dict[str, Any]], *, history: pa.DataType | None = HISTORY.type) -> Path:
    """A shard with ``history`` of this type, or, for None, as shards were before there was one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [field for field in TRAINING_SCHEMA if field.name != "history"]
    schema = pa.schema(fields if history is None else [*fields, pa.field("history", history)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path.parent


def _plain_rows(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "kind": "direct", "image": None, "prompt": "p", "response": "x", "history": []}
        for i in range(count)
    ]


def test_old_folders_keep_their_digest_and_order_and_mix_with_new_ones(tmp_path: Path) -> None:
    before = survey([_shard(tmp_path / "old" / "a.parquet", _plain_rows(5), history=None)])
    after = survey([_shard(tmp_path / "new" / "a.parquet", _plain_rows(5))])
    large = pa.large_list(pa.struct([("answer", pa.large_string()), ("question", pa.large_string())]))
    turns = survey([_shard(tmp_path / "turns" / "a.parquet", [_row()], history=large)])
    # As before there was this column: runs on such folders can go on.
    assert before.digest == after.digest == "b725a719b728e10c"
    orders = [ordered_table(found.files, seed=3, counts=COUNTS)["id"].to_pylist() for found in (before, after)]
    assert orders == [["r0", "r4", "r3", "r2", "r1"]] * 2
    mixed = ordered_table([*before.files, *turns.files], seed=3, counts=COUNTS)
    found = {row["id"]: row["history"] for row in mixed.to_pylist()}
    assert found["q/four_stage"] == [{"question": t.question, "answer": t.answer} for t in (FIRST, SECOND)]
    assert [found[f"r{i}"] for i in range(5)] == [None] * 5


def test_earlier_turns_tell_rows_apart_and_count_as_length(tmp_path: Path) -> None:
    plain = _row() | {"history": []}
    digests = {survey([_shard(tmp_path / n / "a.parquet", [row])]).digest for n, row in (("a", _row()), ("b", plain))}
    assert len(digests) == 2
    longer = [row | {"history": _row()["history"]} if row["id"] in ("r1", "r3") else row for row in _plain_rows(4)]
    files = survey([_shard(tmp_path / "c" / "a.parquet", longer)]).files
    config = TrainConfig(model=tmp_path, data=(tmp_path,), output=tmp_path / "o", batch_size_per_worker=2)
    tables = [ordered_table(files, seed=3, counts=COUNTS)]
    batches = [{row["id"] for row in batch} for batch in epoch_batches(tables, config, epoch=0, rank=0, skip=0)]
    assert sorted(map(sorted, batches)) == [["r0", "r2"], ["r1", "r3"]]


@pytest.mark.parametrize(
    ("history", "kind", "message"),
    [
        ([{"question": "x?", "answer": None}], HISTORY.type, "'q/four_stage': an earlier turn .* lacks"),
        ([None], HISTORY.type, "'q/four_stage': an earlier turn .* lacks"),
        (["x?"], pa.list_(pa.string()), "column 'history' is list<.*it is list<.*struct"),
        ("x?", pa.string(), "column 'history' is string"),
    ],
)
def test_unusable_earlier_turns_are_refused(history: Any, kind: pa.DataType, message: str, tmp_path: Path) -> None:
    folder = _shard(tmp_path / "d" / "a.parquet", [_row() | {"history": history}], history=kind)
    with pytest.raises(InputError, match=message):
        survey([folder])
