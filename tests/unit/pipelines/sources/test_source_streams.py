"""Large files are read row by row, and what is broken in one is said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.sources.streams import json_entries, json_items, json_lines
from reasoning.errors import InputError

ROWS = 30_000


def clevr_file(root: Path, rows: int) -> Path:
    """Some 30 MB of questions, with programs that nobody needs."""
    program = [{"function": "filter_size", "inputs": [n], "value_inputs": ["large"]} for n in range(14)]
    row = {"split": "train", "image_filename": "CLEVR_train_000000.png", "answer": "yes", "program": program}
    path = root / "questions" / "CLEVR_train_questions.json"
    path.parent.mkdir(parents=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {"split": "train"}, "questions": [')
        tail = json.dumps(row)[1:]
        for n in range(rows):
            file.write(("," if n else "") + f'{{"question": "Is {n} there?", "question_index": {n}, {tail}')
        file.write("]}")
    return path


def llava_file(root: Path, rows: int) -> Path:
    turns = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A box. " * 150}]
    path = root / "mix.json"
    path.parent.mkdir(parents=True)
    tail = json.dumps({"conversations": turns})[1:]
    with open(path, "w", encoding="utf-8") as file:
        file.write("[" + ",".join(f'{{"id": {n}, {tail}' for n in range(rows)) + "]")
    return path


READ = """
import resource, sys
from pathlib import Path
from pipelines.sources.base import SourceSpec
from pipelines.sources.catalogue import choose_source

def count(path):
    source, home = choose_source(path)
    return sum(1 for _ in source.read(SourceSpec(path=home).request(home)))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

count(Path(sys.argv[1]))
before = peak()
rows = count(Path(sys.argv[2]))
print(rows, peak() - before)
"""


@pytest.mark.parametrize("make", [clevr_file, llava_file])
def test_a_large_json_is_never_in_memory_as_a_whole(make: Callable[[Path, int], Path], tmp_path: Path) -> None:
    make(tmp_path / "small", 100)
    size = make(tmp_path / "large", ROWS).stat().st_size
    assert size > 30e6
    command = [sys.executable, "-c", READ, str(tmp_path / "small"), str(tmp_path / "large")]
    rows, grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(rows) == ROWS
    # The process has read a small file before; the large one may cost it next to nothing more.
    assert int(grown) < size / 10


def test_a_file_that_breaks_off_says_where(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, {"a": 2}, {"a"')
    rows = json_items(path)
    assert [next(rows), next(rows)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(InputError, match=r"rows\.json: is no whole JSON, broken after 2 rows"):
        next(rows)


def test_wrong_shapes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"other": []}')
    with pytest.raises(InputError, match="must hold a JSON list"):
        list(json_items(path))
    with pytest.raises(InputError, match="no list 'questions'"):
        list(json_items(path, "questions.item"))
    path.write_text("[]")
    assert list(json_items(path)) == []
    with pytest.raises(InputError, match="must hold a JSON object"):
        list(json_entries(path))
    with pytest.raises(InputError, match="cannot be read"):
        list(json_items(tmp_path / "none.json"))


def test_byte_order_marks_and_broken_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b'\xef\xbb\xbf[{"a": 1}]')
    assert list(json_items(path)) == [{"a": 1}]
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": \n{"a": "\xff"}\n{"a": 2}')
    assert list(json_lines(path)) == [{"a": 1}, '{"a":', '{"a": "�"}', {"a": 2}]
