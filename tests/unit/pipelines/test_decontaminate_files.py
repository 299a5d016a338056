"""Benchmarks are read in the forms they come in; what is odd in a row costs that row's picture alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contamination_cases import drawn, encoded

from pipelines.decontaminate_files import BenchmarkRow, read_benchmark
from pipelines.schemas import write_questions
from reasoning.errors import InputError
from reasoning.records import ImageRef, Question

ONE, TWO = encoded(drawn(1)), encoded(drawn(2))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read(path: Path) -> list[BenchmarkRow]:
    return list(read_benchmark(path))


def images(row: BenchmarkRow) -> list[bytes | str | None]:
    return [image.data or image.uri for image in row.images]


def test_tsv_with_shared_several_broken_and_named_pictures(tmp_path: Path) -> None:
    rows = [
        ("1", b64(ONE), "", "Größe?\nNext line"),
        ("2", "1", "", "shared"),
        ("3", str([b64(ONE), b64(TWO)]), "", "two"),
        ("4", "*" * 100, "", "broken"),
        ("5", "", "pictures/a.png", "by path"),
        ("6", "", "", "text only"),
    ]
    lines = ["\t".join(("index", "image", "image_path", "question"))]
    lines += ["\t".join((index, image, path, f'"{text}"')) for index, image, path, text in rows]
    (tmp_path / "Bench.tsv").write_text("\n".join(lines), encoding="utf-8")
    first, shared, two, broken, by_path, text = read(tmp_path / "Bench.tsv")
    assert (first.row, first.text, images(first)) == ("1", "Größe?\nNext line", [ONE])
    assert (shared.images, shared.shared_with) == ((), "1")
    assert images(two) == [ONE, TWO]
    assert broken.text == "broken"
    assert "no base64" in broken.fault
    assert images(by_path) == [str(tmp_path / "pictures/a.png")]
    assert (text.images, text.shared_with, text.fault) == ((), None, "")


def test_hub_parquet_with_a_picture_a_list_and_numbered_ones(tmp_path: Path) -> None:
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "pid": ["a", "b"],
            "query": ["q1", "q2"],
            "images": pa.array([[{"bytes": ONE, "path": None}], []], pa.list_(cell)),
            "image_2": pa.array([{"bytes": TWO, "path": "x"}, None], cell),
        }
    )
    pq.write_table(table, tmp_path / "bench.parquet")
    for path in (tmp_path / "bench.parquet", tmp_path):
        first, second = read(path)
        assert (first.row, first.text, images(first)) == ("a", "q1", [ONE, TWO])
        assert (second.row, second.images) == ("b", ())


def test_our_own_question_parquet(tmp_path: Path) -> None:
    made = [
        Question(id="x", question="bytes", image=ImageRef(data=ONE)),
        Question(id="y", question="path", image=ImageRef(uri="s3://b/k.png")),
    ]
    write_questions(tmp_path / "own", made)
    assert [(row.row, row.text, images(row)) for row in read(tmp_path / "own")] == [
        ("x", "bytes", [ONE]),
        ("y", "path", ["s3://b/k.png"]),
    ]


def test_json_lines_with_paths_urls_and_base64(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "a", "image": "p/1.png"},
        {"question_id": 7, "question": "b", "image": f"data:image/png;base64,{b64(ONE)}"},
        {"question": "c", "image": b64(TWO)},
        {"question": "d", "image": 5},
    ]
    file = tmp_path / "bench.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    found = read(file)
    assert [(row.row, images(row)) for row in found] == [
        ("0", [str(tmp_path / "p/1.png")]),
        ("7", [ONE]),
        ("2", [TWO]),
        ("3", []),
    ]
    assert "a int is no picture" in found[3].fault


def test_llava_lines_are_left_to_their_source(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(ONE)
    turns = [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "So."}]
    (tmp_path / "train.jsonl").write_text(json.dumps({"id": "i", "image": "1.png", "conversations": turns}))
    (row,) = read(tmp_path / "train.jsonl")
    assert row.text == "Why?"
    assert len(row.images) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.tsv", "index\timage\n1\tx", "no column 'question'"),
        ("b.jsonl", '{"a": 1}', "no column for the question"),
        ("b.jsonl", "{", "line 1 is no JSON"),
        ("b.jsonl", "[]", "no JSON object"),
        ("b.parquet", "PAR1", "no readable Parquet"),
        ("b.xyz", "", "layout of no known data set"),
    ],
)
def test_what_is_no_benchmark_is_refused_by_name(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "none.tsv")
