"""Every accepted row stands once in each format, in a form that its trainer's documentation asks for."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow.parquet as pq
import pytest
from export_cases import BLUE, GREEN, RED, made_up_run, questions, stages

from actors.images import image_bytes
from pipelines.exports.config import ExportConfig, ExportFormat, ImageMode, TrlForm
from pipelines.exports.conversations import prompt_with_history
from pipelines.exports.writing import ExportResult, export_conversations
from pipelines.sources.base import ReadRequest
from pipelines.sources.llava import SOURCE as LLAVA
from reasoning.errors import ConfigError
from reasoning.parsing import parse_stages
from reasoning.prompts import question_text
from reasoning.records import Question
from stagebeam.settings import build_config

PICTURES = {"plain": RED, "choice": RED, "text": None, "path": BLUE, "c-0": GREEN, "c-1": GREEN, "c-2": GREEN}
Record = dict[str, Any]


def export(tmp_path: Path, form: ExportFormat, **settings: Any) -> tuple[Path, ExportResult]:
    run = made_up_run(tmp_path)
    result = export_conversations(ExportConfig(run=str(run), format=form, output=tmp_path / "out", **settings))
    return tmp_path / "out", result


def lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked(folder: Path) -> dict[str, str]:
    """What the user says for each row, literal placeholders spelled apart."""
    made = questions(folder / "again")
    return {question.id: question_text(question).replace("<image>", "< image>") for question in made}


def row_of(answer: str) -> str:
    """The row that an answer was written for; all four stages must be there."""
    found = parse_stages(answer)
    name = getattr(found, "conclusion", "no stages").removeprefix("it is ")
    assert answer == stages(name).render()
    return name


def pairs(turns: list[Record]) -> Iterator[tuple[str, str]]:
    """Questions and answers of a LLaVA-style list; user first, in turn."""
    assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
    return zip((t["value"] for t in turns[::2]), (t["value"] for t in turns[1::2]), strict=True)


@pytest.mark.parametrize("settings", [{}, {"image_token": True}, {"llava_list": True}])
def test_llava_gives_back_questions_pictures_and_stages(tmp_path: Path, settings: Record) -> None:
    folder, result = export(tmp_path, ExportFormat.LLAVA, **settings)
    name = "train.json" if settings.get("llava_list") else "train.jsonl"
    records = json.loads((folder / name).read_text(encoding="utf-8")) if name == "train.json" else lines(folder / name)
    wanted = asked(tmp_path)
    seen: dict[str, bytes | None] = {}
    for record in records:
        image = record.get("image")
        for place, (question, answer) in enumerate(pairs(record["conversations"])):
            row = row_of(answer)
            token = "<image>\n" if settings and place == 0 and image else ""
            assert question == token + wanted[row]
            assert row not in seen
            seen[row] = (folder / image).read_bytes() if image else None
    assert seen == PICTURES
    assert (result.rows, result.records, result.joined, result.images) == (7, 5, 1, 3)


@pytest.mark.parametrize("settings", [{}, {"image_token": True}, {"llava_list": True}])
def test_source_reads_an_llava_export_back(tmp_path: Path, settings: Record) -> None:
    folder, _ = export(tmp_path, ExportFormat.LLAVA, **settings)
    home = LLAVA.home(folder / ("train.json" if settings.get("llava_list") else "train.jsonl"))
    read = [row for row in LLAVA.read(ReadRequest(home=home)) if isinstance(row, Question)]
    wanted = asked(tmp_path)
    found = {str(row.answer).removeprefix("it is "): row for row in read}
    assert len(read) == len(found) == 7
    assert {name: row.question for name, row in found.items()} == wanted
    assert {name: row.image and image_bytes(row.image) for name, row in found.items()} == PICTURES
    assert [(found[f"c-{n}"].turn, len(found[f"c-{n}"].history)) for n in range(3)] == [(0, 0), (1, 1), (2, 2)]


def test_pictures_are_files_once_each_with_the_suffix_of_their_bytes(tmp_path: Path) -> None:
    folder, _ = export(tmp_path, ExportFormat.LLAVA)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in (folder / "images").rglob("*.*")}
    assert sorted(files.values()) == sorted([RED, GREEN, BLUE])
    assert all(re.fullmatch(r"images/[0-9a-f]{2}/[0-9a-f]{32}\.(png|jpg)", name) for name in files)
    assert {name[-3:] for name, data in files.items() if data == GREEN} == {"jpg"}


def test_llamafactory_meets_its_documented_checks(tmp_path: Path) -> None:
    folder, _ = export(tmp_path, ExportFormat.LLAMAFACTORY, dataset_name="mine")
    info = json.loads((folder / "dataset_info.json").read_text())["mine"]
    assert info["formatting"] == "sharegpt"
    records = lines(folder / info["file_name"])
    messages, images, tags = info["columns"]["messages"], info["columns"]["images"], info["tags"]
    seen = []
    for record in records:
        turns = record[messages]
        roles = [turn[tags["role_tag"]] for turn in turns]
        assert roles == [tags["user_tag"], tags["assistant_tag"]] * (len(turns) // 2)
        text = "".join(turn[tags["content_tag"]] for turn in turns)
        assert isinstance(record[images], list)
        assert text.count("<image>") == len(record[images])
        assert text.count("<video>") == text.count("<audio>") == 0
        assert all((folder / name).is_file() for name in record[images])
        seen += [row_of(answer) for _, answer in pairs(turns)]
    assert sorted(seen) == sorted(PICTURES)


@pytest.mark.parametrize("mode", list(ImageMode))
def test_trl_messages_hold_as_many_places_as_images(tmp_path: Path, mode: ImageMode) -> None:
    folder, _ = export(tmp_path, ExportFormat.TRL, images=mode, rows_per_file=2)
    files = sorted((folder / "data").glob("*.parquet"))
    assert [pq.ParquetFile(file).metadata.num_rows for file in files] == [2, 2, 1]
    seen: dict[str, bytes | None] = {}
    for record in (record for file in files for record in pq.read_table(file).to_pylist()):
        parts = [part for message in record["messages"] for part in message["content"]]
        assert sum(part["type"] == "image" for part in parts) == len(record["images"]) <= 1
        assert all((part["type"] == "text") == isinstance(part["text"], str) for part in parts)
        assert [m["role"] for m in record["messages"]] == ["user", "assistant"] * (len(record["messages"]) // 2)
        cell = record["images"][0] if record["images"] else {"bytes": None, "path": None}
        assert (cell["bytes"] is None) == (mode is ImageMode.FILES or not record["images"])
        data = (folder / cell["path"]).read_bytes() if cell["path"] and cell["bytes"] is None else cell["bytes"]
        for message in record["messages"][1::2]:
            seen[row_of(message["content"][0]["text"])] = data
    assert seen == PICTURES
    features = json.loads(pq.read_schema(files[0]).metadata[b"huggingface"])["info"]["features"]
    assert features["images"] == [{"_type": "Image"}]
    assert list(features) == pq.read_schema(files[0]).names


def test_trl_completions_teach_each_answer_once(tmp_path: Path) -> None:
    folder, result = export(tmp_path, ExportFormat.TRL, trl_form=TrlForm.PROMPT_COMPLETION)
    records = pq.read_table(folder / "data").to_pylist()
    assert sorted(row_of(r["completion"][0]["content"][0]["text"]) for r in records) == sorted(PICTURES)
    assert result.records == 7
    last = next(record for record in records if record["id"] == "c-2")
    assert [message["role"] for message in last["prompt"]] == ["user", "assistant", "user", "assistant", "user"]
    assert [part["type"] for message in last["prompt"] for part in message["content"]].count("image") == 1
    assert len(last["images"]) == 1


def test_openai_messages_embed_or_name_the_picture(tmp_path: Path) -> None:
    wanted = {question.id: question_text(question) for question in questions(tmp_path / "again")}
    run = made_up_run(tmp_path)
    for mode in ImageMode:
        folder = tmp_path / f"größe {mode.value}"
        export_conversations(ExportConfig(run=str(run), format=ExportFormat.OPENAI, output=folder, images=mode))
        seen: dict[str, bytes | None] = {}
        for record in lines(folder / "train.jsonl"):
            assert list(record) == ["messages"]
            data = None
            for user, assistant in zip(record["messages"][::2], record["messages"][1::2], strict=True):
                assert (user["role"], assistant["role"]) == ("user", "assistant")
                parts = user["content"]
                if isinstance(parts, list):
                    url = urlparse(parts[0]["image_url"]["url"])
                    is_data = url.scheme == "data"
                    data = base64.b64decode(url.path.partition(",")[2]) if is_data else read_uri(url.path)
                    assert url.scheme == ("data" if mode is ImageMode.EMBEDDED else "file")
                row = row_of(assistant["content"])
                assert (parts if isinstance(parts, str) else parts[1]["text"]) == wanted[row]
                seen[row] = data
        assert seen == PICTURES


def read_uri(path: str) -> bytes:
    return Path(unquote(path)).read_bytes()


def test_history_is_written_out_for_a_turn_that_stands_alone(tmp_path: Path) -> None:
    last = questions(tmp_path)[-1]
    assert prompt_with_history(last, "Q") == (
        "Earlier in this conversation:\n\nUser: c turn 0?\nAssistant: short 0\n\n"
        "User: c turn 1?\nAssistant: short 1\n\nNow answer:\nQ"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "llava", "images": "embedded"}, "holds them files, not embedded"),
        ({"format": "parquet", "images": "files"}, "holds them embedded, not files"),
        ({"format": "trl", "image_folder": "../x"}, "name of one folder"),
        ({"format": "sharegpt"}, "'llava', 'llamafactory'"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(values: Record, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config(ExportConfig, {"run": "r", "output": "o", **values}, source="test")
