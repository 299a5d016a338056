"""From a raw row to a ``Question``: fields, pictures, gold answers, identities, faults.

No row is lost: what cannot be made a question becomes one that says what is wrong with it. Nothing
is read here but the field values handed in.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.sources.base import FAULT, RowFaultError, Rows, Skipped
from reasoning.grading import choice_index
from reasoning.numerals import numeral
from reasoning.prompts import option_letter
from reasoning.records import AnswerType, ImageRef, Question, Turn

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}
_MAGIC = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)
_MAX_OPTIONS = 26
_SHOWN_DEPTH = 8
_LONGEST_PHRASE_WORDS = 5


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the rows of one file share."""

    source: str
    split: str
    file: str
    """The file's name below the data set's folder."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A row's picture, and the name it is known by wherever the data set lies."""

    name: str
    ref: ImageRef


@dataclass(frozen=True, kw_only=True)
class Gold:
    """What is known of the right answer."""

    choices: tuple[str, ...] = ()
    answer: str | None = None
    answers: tuple[str, ...] = ()
    answer_type: AnswerType = AnswerType.FREE


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question of a row and its gold answer."""

    text: str
    gold: Gold
    meta: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None


class Fields:
    """A raw row whose fields are read with a check; every fault names the field."""

    def __init__(self, raw: Any) -> None:
        if not isinstance(raw, Mapping):
            raise RowFaultError(f"the row is {_short(raw)}, not an object with fields")
        self.raw: Mapping[str, Any] = raw

    def get(self, name: str) -> Any:
        return self.raw.get(name)

    def text(self, name: str) -> str:
        """A text that is not blank; numbers are taken as text."""
        value = self.raw.get(name)
        if value is None:
            raise RowFaultError(f"field {name!r} is missing")
        text = plain_text(value, name)
        if not text:
            raise RowFaultError(f"field {name!r} is empty")
        return text

    def maybe_text(self, name: str) -> str:
        """The same, or nothing when it is missing or null."""
        value = self.raw.get(name)
        return "" if value is None else plain_text(value, name)

    def texts(self, name: str) -> list[str]:
        """A list of texts, or the text of such a list in Python's or JSON's notation."""
        value = self.raw.get(name)
        if isinstance(value, str):
            value = _literal_list(value, name)
        if not isinstance(value, list | tuple):
            raise RowFaultError(f"field {name!r} is {_short(value)}, not a list")
        return [plain_text(item, name) for item in value]

    def integer(self, name: str) -> int:
        """A whole number, or one written as text."""
        value = self.raw.get(name)
        if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise RowFaultError(f"field {name!r} is {_short(value)}, not a whole number")
        return value


def plain_text(value: Any, name: str) -> str:
    """``value`` as text that any file can hold; numbers are spelled, other types refused."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowFaultError(f"field {name!r} is {_short(value)}, not a text")
    return clean(str(value))


def clean(text: str) -> str:
    """Without outer white space; half surrogate pairs, which no file can hold, become U+FFFD."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").strip()


def choice_gold(choices: Sequence[str], right: int) -> Gold:
    """The gold of a multiple choice from the options as they stand and the index of the right one.

    Empty options, ``{}`` and options that stand twice are dropped, the later one of two. The answer
    is the right option's letter, or its text where an option's text is that letter. Raises
    RowFaultError when it cannot be told which option is right.
    """
    if not 0 <= right < len(choices):
        raise RowFaultError(f"the right option is number {right}, and there are {len(choices)} options")
    wanted = clean(choices[right])
    if wanted in ("", "{}"):
        raise RowFaultError(f"the right option, number {right}, is empty")
    kept = tuple(dict.fromkeys(text for text in map(clean, choices) if text not in ("", "{}")))
    if len(kept) < 2:
        raise RowFaultError(f"{len(kept)} option is left of {len(choices)}, and a choice needs two")
    if len(kept) > _MAX_OPTIONS:
        raise RowFaultError(f"there are {len(kept)} options, and no letters for more than {_MAX_OPTIONS}")
    index = kept.index(wanted)
    for answer in (option_letter(index), wanted):
        if choice_index(answer, kept) == index:
            return Gold(choices=kept, answer=answer, answer_type=AnswerType.CHOICE)
    raise RowFaultError(f"the right option {_short(wanted)} cannot be told from the others by letter or text")


def open_choices(choices: Sequence[str]) -> Gold:
    """Options whose right one is not known."""
    kept = tuple(dict.fromkeys(text for text in map(clean, choices) if text not in ("", "{}")))
    return Gold(choices=kept, answer_type=AnswerType.CHOICE)


def text_gold(answers: Sequence[str], *, is_open: bool = False) -> Gold:
    """Accepted answers in words, the first the standard answer. ``is_open``: other words may say the same."""
    known = list(dict.fromkeys(text for text in map(clean, answers) if text))
    if not known:
        return Gold()
    return Gold(answer=known[0], answers=tuple(known[1:]), answer_type=answer_kind(known[0], is_open=is_open))


def answer_kind(answer: str, *, is_open: bool = False) -> AnswerType:
    """A number, a short text, or, if it ``is_open`` or long, free words."""
    if len(answer.split(maxsplit=_LONGEST_PHRASE_WORDS)) > _LONGEST_PHRASE_WORDS:
        return AnswerType.FREE
    if numeral(answer) is not None:
        return AnswerType.NUMBER
    return AnswerType.FREE if is_open else AnswerType.TEXT


def answer_text(value: Any, name: str = "answer") -> str:
    """An answer as text: true and false are yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain_text(value, name)


def file_picture(folder: Path, name: str) -> Picture:
    """A picture that is a file below ``folder``, which need not be there; it may not lie outside."""
    plain = Path(name.replace("\\", "/"))
    path = folder.absolute() / plain
    if "://" in name:
        raise RowFaultError(f"the picture {_short(name)} is a web address; download it and give its file name")
    if "\x00" in name or ".." in plain.parts or not path.is_relative_to(folder.absolute()):
        raise RowFaultError(f"the picture {_short(name)} lies outside of {folder}; set image_root to where it is")
    kind = MEDIA_TYPES.get(path.suffix.lower(), "image/png")
    return Picture(name=plain.as_posix(), ref=ImageRef(uri=str(path), media_type=kind))


def bytes_picture(data: bytes, name: str = "") -> Picture:
    """A picture that the data set holds as bytes; without a name it is known by a hash of them."""
    known = name or hashlib.sha256(data).hexdigest()[:32]
    return Picture(name=known, ref=ImageRef(data=data, media_type=media_type(data)))


def media_type(data: bytes) -> str:
    """What the first bytes say the format is; ``image/png`` when they say nothing."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), "image/png")


def make_question(
    origin: Origin,
    asked: Asked,
    *,
    key: str = "",
    picture: Picture | None = None,
    hint: str | None = None,
    meta: Mapping[str, str] | None = None,
) -> Question:
    """The question of a row that asks one. ``key`` is the data set's own key of the row, if it has one."""
    return make_questions(origin, [asked], key=key, picture=picture, hint=hint, meta=meta)[0]


def make_questions(
    origin: Origin,
    asked: Sequence[Asked],
    *,
    key: str = "",
    picture: Picture | None = None,
    hint: str | None = None,
    meta: Mapping[str, str] | None = None,
) -> list[Question]:
    """A question for each turn of a row; the turns before are its history.

    The identities depend on what the row says and on the picture's name, not on where the data set
    lies; equal rows have equal ones, rows that differ in anything do not.
    """
    image_name = picture.name if picture else ""
    whole = [[a.text, list(a.gold.choices), a.gold.answer, list(a.gold.answers)] for a in asked]
    row = digest([origin.source, origin.split, image_name, key, hint or "", whole])
    shared = {**({"image": image_name} if image_name else {}), **({"key": key} if key else {}), **(meta or {})}
    made = []
    history: tuple[Turn, ...] = ()
    for turn, one in enumerate(asked):
        fault = {FAULT: one.fault} if one.fault else {}
        made.append(
            Question(
                id=digest([row, turn]),
                question=one.text,
                image=picture.ref if picture else None,
                source=origin.source,
                split=origin.split,
                conversation_id=row if len(asked) > 1 else "",
                turn=turn,
                choices=one.gold.choices,
                answer=one.gold.answer,
                answers=one.gold.answers,
                answer_type=one.gold.answer_type,
                hint=hint or None,
                history=history,
                meta={**shared, **one.meta, **fault},
            )
        )
        history = (*history, Turn(question=one.text, answer=one.gold.answer or ""))
    return made


def faulty_question(origin: Origin, number: int, raw: Any, what: str) -> Question:
    """A row that is no question, kept with what is wrong with it. ``number`` is its place in the file."""
    shown = clean(json.dumps(_shown(raw), ensure_ascii=False, sort_keys=True))
    text = raw.get("question") if isinstance(raw, Mapping) else None
    placeholder = clean(text) if isinstance(text, str) else ""
    return Question(
        id=digest([origin.source, origin.split, origin.file, number, shown]),
        question=placeholder or shown[:300],
        source=origin.source,
        split=origin.split,
        meta={FAULT: clean(what), "row": f"{origin.file}#{number}"},
    )


def guarded(
    origin: Origin, items: Iterable[Any], convert: Callable[[Fields], Iterable[Question | Skipped]], *, start: int = 0
) -> Rows:
    """Each item converted; one that has a fault becomes a question that says so. ``start`` numbers the first."""
    for number, raw in enumerate(items, start=start):
        try:
            found = list(convert(Fields(raw)))
        except RowFaultError as error:
            found = [faulty_question(origin, number, raw, str(error))]
        yield from found


def digest(parts: Any) -> str:
    """Twenty-four hex digits of a hash of plain values."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _literal_list(text: str, name: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise RowFaultError(f"field {name!r} is {_short(text)}, not a list") from error


def _shown(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON can show it: bytes by their number, and not deeper than anybody reads."""
    if depth > _SHOWN_DEPTH:
        return "…"
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(key): _shown(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else f"<{type(value).__name__}>"


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
