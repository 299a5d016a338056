"""WebDataset tars: ``key.jpg`` or ``key.png`` beside ``key.json``, read in one go and never unpacked.

The JSON is a LLaVA-style row (``conversations``), or has ``question`` and ``answer`` or ``answers``,
with ``choices`` and, as ``answer``, the right one's index, letter or text.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.sources.base import (
    ExpectedFile,
    ReadRequest,
    RowFaultError,
    Rows,
    Source,
    SourceInfo,
    existing_files,
    plain_split,
)
from pipelines.sources.llava import conversation_questions
from pipelines.sources.rows import (
    MEDIA_TYPES,
    Asked,
    Fields,
    Gold,
    Origin,
    Picture,
    answer_text,
    bytes_picture,
    choice_gold,
    guarded,
    make_question,
    open_choices,
    text_gold,
)
from reasoning.errors import InputError
from reasoning.grading import choice_index
from reasoning.records import Question

MAX_MEMBER_BYTES = 256 << 20
"""Larger files in a tar are no pictures and no rows."""


def _home(root: Path) -> Path | None:
    return root if _manifests(root) else None


def _manifests(home: Path) -> list[Path]:
    if home.is_file():
        return [home] if home.name.endswith((".tar", ".tar.gz", ".tgz")) else []
    return existing_files(home, "*.tar", "*.tar.gz", "*.tgz", "*/*.tar") if home.is_dir() else []


def _read(request: ReadRequest) -> Rows:
    folder = request.home.parent if request.home.is_file() else request.home
    for file in _manifests(request.home):
        split = next((s for s in map(plain_split, file.stem.split("-")) if s in ("train", "val", "test")), "")
        if request.leaves_out(split):
            continue
        name = file.relative_to(folder).as_posix()
        origin = Origin(source=request.label or SOURCE.name, split=split, file=name)

        def convert(row: Fields, origin: Origin = origin) -> list[Question]:
            return _questions(origin, row)

        yield from guarded(origin, _samples(file), convert)


def _samples(file: Path) -> Iterator[dict[str, Any]]:
    """The files of each key, by extension; those of one key stand together."""
    key, held = "", dict[str, Any]()
    try:
        with tarfile.open(file, mode="r|*") as tar:
            for member in tar:
                if not member.isfile() or Path(member.name).name.startswith("."):
                    continue
                stem, extension = _split_name(member.name)
                if held and stem != key:
                    yield {"key": key, "files": held}
                    held = {}
                key = stem
                is_small = member.size <= MAX_MEMBER_BYTES
                content = tar.extractfile(member) if is_small else None
                held[extension] = content.read() if content is not None else member.size
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{file}: is no whole tar, broken behind {key or 'its beginning'!r}: {error}") from error
    if held:
        yield {"key": key, "files": held}


def _split_name(name: str) -> tuple[str, str]:
    """``a/b.c.jpg`` as ``a/b`` and ``.c.jpg``: the key ends at the first dot of the file's name."""
    folder, _, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), f"{dot}{extension}".lower()


def _questions(origin: Origin, sample: Fields) -> list[Question]:
    files, key = sample.get("files"), sample.text("key")
    too_large = [name for name, data in files.items() if isinstance(data, int)]
    if too_large:
        raise RowFaultError(f"{key}{too_large[0]} has more than {MAX_MEMBER_BYTES:,} bytes")
    if ".json" not in files:
        raise RowFaultError(f"there is no {key}.json beside {', '.join(key + name for name in sorted(files))}")
    try:
        row = Fields(json.loads(files[".json"]))
    except (ValueError, RecursionError) as error:
        raise RowFaultError(f"{key}.json is no JSON: {error}") from error
    pictures = [name for name in files if name in MEDIA_TYPES]
    if len(pictures) > 1:
        raise RowFaultError(f"{key} has {len(pictures)} pictures; only rows of one are read")
    picture = bytes_picture(files[pictures[0]], name=f"{key}{pictures[0]}") if pictures else None
    if "conversations" in row.raw:
        return conversation_questions(origin, row, lambda _: picture)
    return [_plain_question(origin, row, key, picture)]


def _plain_question(origin: Origin, row: Fields, key: str, picture: Picture | None) -> Question:
    asked = Asked(text=row.text("question"), gold=_gold(row))
    return make_question(origin, asked, key=key, picture=picture, hint=row.maybe_text("hint"))


def _gold(row: Fields) -> Gold:
    answer, choices = row.get("answer"), row.texts("choices") if row.get("choices") else []
    if not choices:
        more = row.texts("answers") if row.get("answers") else []
        return text_gold([*([] if answer is None else [answer_text(answer)]), *more], is_open=True)
    if answer is None:
        return open_choices(choices)
    is_index = isinstance(answer, int) and not isinstance(answer, bool)
    right = answer if is_index else choice_index(answer_text(answer), choices)
    if right is None:
        raise RowFaultError(f"the answer {answer!r} is none of the choices")
    return choice_gold(choices, right)


SOURCE = Source(
    info=SourceInfo(
        name="webdataset",
        title="WebDataset tars",
        task="pictures with questions or conversations",
        licence="as the data",
        where="any collection of tars with key.jpg and key.json",
        files=(ExpectedFile(pattern="**/*.tar*", what="key.jpg or key.png, and key.json, beside each other"),),
        notes="read in one go, not unpacked",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
