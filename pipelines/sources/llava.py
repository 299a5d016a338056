"""LLaVA-style files: a JSON list or JSON lines of ``{id, image, conversations: [{from, value}, …]}``.

The form of InternVL's and LLaVA's training data, and of LLaVA-CoT-100k itself (``train.jsonl``),
whose answers are four-stage texts: of those the conclusion is the standard answer. Options and
instructions stay in the question as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pipelines.sources.base import (
    TEACHER_HINT,
    ExpectedFile,
    ReadRequest,
    RowFaultError,
    Rows,
    Source,
    SourceInfo,
    existing_files,
)
from pipelines.sources.rows import (
    Asked,
    Fields,
    Gold,
    Origin,
    Picture,
    answer_kind,
    clean,
    file_picture,
    guarded,
    make_questions,
    plain_text,
)
from pipelines.sources.streams import first_byte, json_items, json_lines
from reasoning.errors import InputError
from reasoning.grading import choice_letter
from reasoning.parsing import parse_stages
from reasoning.records import AnswerType, Question
from reasoning.stages import FourStages, Stage

IMAGE_TOKEN = "<image>"
_FIRST_ROWS = 20
_HUMAN = ("human", "user")
_MODEL = ("gpt", "assistant", "model")
_LINE_OPTION = re.compile(r"^\s*\(?([A-H])[.):]\s*\S", re.MULTILINE)
_INLINE_OPTION = re.compile(r"\(([A-H])\)\s*\S")


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A question, what was answered, and a hint for the teacher."""

    question: str
    answer: str | None
    hint: str = ""


def _home(root: Path) -> Path | None:
    if root.is_file():
        return root if is_llava_file(root) else None
    return root if root.is_dir() and _manifests(root) else None


def _manifests(home: Path) -> list[Path]:
    if home.is_file():
        return [home]
    return [path for path in existing_files(home, "*.json", "*.jsonl") if is_llava_file(path)]


def is_llava_file(file: Path) -> bool:
    """Whether one of the file's first rows has conversations; a file that cannot be read has none."""
    if file.suffix not in (".json", ".jsonl"):
        return False
    try:
        first = list(islice(raw_rows(file), _FIRST_ROWS))
    except InputError:
        return False
    return any(isinstance(row, dict) and "conversations" in row for row in first)


def raw_rows(file: Path) -> Iterator[Any]:
    """The rows of a JSON list, or of JSON lines, whatever the file is called."""
    return json_items(file) if first_byte(file) == b"[" else json_lines(file)


def _read(request: ReadRequest) -> Rows:
    folder = request.home.parent if request.home.is_file() else request.home
    for file in _manifests(request.home):
        split = next((name for name in ("train", "val", "test") if file.stem == name), "")
        if not request.leaves_out(split):
            origin = Origin(source=request.label or file.stem, split=split, file=file.name)
            yield from llava_rows(origin, raw_rows(file), request.image_root or folder)


def llava_rows(origin: Origin, items: Iterator[Any], pictures: Path) -> Rows:
    """Questions of LLaVA-style rows whose pictures lie below ``pictures``."""

    def picture_of(row: Fields) -> Picture | None:
        names = _image_names(row)
        return _existing_spelling(pictures, names[0]) if names else None

    return guarded(origin, items, lambda row: conversation_questions(origin, row, picture_of))


def conversation_questions(
    origin: Origin, row: Fields, picture_of: Callable[[Fields], Picture | None]
) -> list[Question]:
    """A question for each turn of a row with ``conversations``."""
    turns, system = _turns(row.get("conversations"))
    tokens = sum(turn.question.count(IMAGE_TOKEN) for turn in turns)
    if tokens > 1:
        raise RowFaultError(f"the row has {tokens} {IMAGE_TOKEN} tokens; only rows of one picture are read")
    picture = picture_of(row)
    if tokens and picture is None:
        raise RowFaultError(f"the row has an {IMAGE_TOKEN} token and names no picture")
    asked = [exchange_asked(turn) for turn in _with_hints(turns, row.get("hints"))]
    meta = {"system": system} if system else {}
    return make_questions(origin, asked, key=row.maybe_text("id"), picture=picture, meta=meta)


def exchange_asked(turn: Exchange) -> Asked:
    """The turn without image tokens; one that is empty then is a fault."""
    text = clean(turn.question.replace(IMAGE_TOKEN, " ") if IMAGE_TOKEN in turn.question else turn.question)
    meta = {TEACHER_HINT: turn.hint} if turn.hint else {}
    if not text:
        return Asked(text="(an empty question)", gold=Gold(), meta=meta, fault="the question is empty")
    if turn.answer is not None and not turn.answer:
        return Asked(text=text, gold=Gold(), meta=meta, fault="the answer is empty")
    return Asked(text=text, gold=written_gold(text, turn.answer), meta=meta)


def written_gold(question: str, answer: str | None) -> Gold:
    """The gold of an answer in words to a question that may have its options written in it."""
    if answer is None:
        return Gold()
    stages = parse_stages(answer) if Stage.CONCLUSION.open_tag in answer else None
    known = stages.conclusion if isinstance(stages, FourStages) else answer
    letters = _option_letters(question)
    if letters and choice_letter(known) in letters:
        return Gold(answer=known, answer_type=AnswerType.CHOICE)
    return Gold(answer=known, answer_type=answer_kind(known, is_open=True))


def _option_letters(question: str) -> set[str]:
    """The letters of options that are written in a question, each on a line of its own or in brackets."""
    for pattern in (_LINE_OPTION, _INLINE_OPTION):
        letters = pattern.findall(question)
        if len(letters) > 1 and letters[0] == "A":
            return set(letters)
    return set()


def _turns(value: Any) -> tuple[list[Exchange], str]:
    """The exchanges of a conversation in order, and the system's message; RowFaultError when they do not pair up."""
    if not isinstance(value, list) or not value:
        raise RowFaultError("field 'conversations' is no list of turns")
    said = [_message(turn) for turn in value]
    system = "\n".join(text for role, text in said if role == "system")
    said = [one for one in said if one[0] != "system"]
    exchanges = []
    for place in range(0, len(said), 2):
        role, text = said[place]
        if role not in _HUMAN:
            raise RowFaultError(f"turn {place + 1} of the conversation is by {role!r}, not by the human")
        if place + 1 == len(said):
            exchanges.append(Exchange(question=text, answer=None))
            break
        answering, answer = said[place + 1]
        if answering not in _MODEL:
            raise RowFaultError(f"turn {place + 2} of the conversation is by {answering!r}, not by the model")
        exchanges.append(Exchange(question=text, answer=answer))
    if not exchanges:
        raise RowFaultError("the conversation has no question")
    return exchanges, system


def _with_hints(turns: list[Exchange], hints: Any) -> list[Exchange]:
    """The exchanges with the row's hints for the teacher, one each in their order; there may be fewer."""
    if not isinstance(hints, list):
        return turns
    texts = ["" if hint is None else plain_text(hint, "hints") for hint in hints[: len(turns)]]
    texts += [""] * (len(turns) - len(texts))
    return [replace(turn, hint=hint) for turn, hint in zip(turns, texts, strict=True)]


def _message(turn: Any) -> tuple[str, str]:
    """Who speaks, and what."""
    fields = Fields(turn)
    role = fields.text("from" if "from" in fields.raw else "role")
    value = fields.get("value" if "value" in fields.raw else "content")
    if not isinstance(value, str):
        raise RowFaultError(f"a turn by {role!r} says {value!r}, which is no text")
    return role, clean(value)


def _image_names(row: Fields) -> list[str]:
    value = row.get("image") if row.get("image") is not None else row.get("images")
    names = value if isinstance(value, list) else [value] if value not in (None, "") else []
    if len(names) > 1:
        raise RowFaultError(f"the row has {len(names)} pictures; only rows of one are read")
    return [plain_text(name, "image") for name in names]


def _existing_spelling(folder: Path, name: str) -> Picture:
    """The picture by its name; where zip tools spelled a letter as ``#U00e3`` or did not, whichever file is there."""
    picture = file_picture(folder, name)
    if Path(picture.ref.uri or "").is_file():
        return picture
    for other in (_decoded(name), _encoded(name)):
        if other != name:
            found = file_picture(folder, other)
            if Path(found.ref.uri or "").is_file():
                return Picture(name=picture.name, ref=found.ref)
    return picture


def _decoded(name: str) -> str:
    return re.sub(r"#U([0-9a-fA-F]{4})", lambda found: clean(chr(int(found[1], 16))), name)


def _encoded(name: str) -> str:
    return "".join(letter if letter.isascii() else f"#U{ord(letter):04x}" for letter in name)


SOURCE = Source(
    info=SourceInfo(
        name="llava",
        title="LLaVA-style json or jsonl",
        task="conversations about a picture",
        licence="as the data",
        where="https://huggingface.co/datasets/Xkev/LLaVA-CoT-100k (train.jsonl), "
        "https://huggingface.co/datasets/OpenGVLab/InternVL-Chat-V1-2-SFT-Data, and many others",
        files=(
            ExpectedFile(pattern="*.json*", what="rows with id, image, conversations"),
            ExpectedFile(pattern="*/", what="pictures, below the file's folder or image_root", is_required=False),
        ),
        notes="one question a turn; rows are called by the file's name unless label is set",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
