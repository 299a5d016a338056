"""Parquet as data sets lie on the Hugging Face Hub: pictures in the rows, columns by the data set.

Which data set a file is of is told by its columns. ``Question.source`` is the data set's name, as
if it were read in its own layout; the split is what the file's name begins with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.schemas import open_parquet
from pipelines.sources.aokvqa import aokvqa_gold, aokvqa_meta
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
from pipelines.sources.docvqa import docvqa_gold
from pipelines.sources.llava import IMAGE_TOKEN, Exchange, conversation_questions, exchange_asked
from pipelines.sources.rows import (
    Asked,
    Fields,
    Gold,
    Origin,
    Picture,
    answer_text,
    bytes_picture,
    choice_gold,
    file_picture,
    guarded,
    make_question,
    make_questions,
    open_choices,
    text_gold,
)
from pipelines.sources.scienceqa import scienceqa_meta
from reasoning.errors import InputError
from reasoning.records import Question

Convert = Callable[[Origin, Fields, "Picture | None"], list[Question]]

_BATCH_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """The columns that tell a data set, and how its rows read."""

    source: str
    columns: frozenset[str]
    convert: Convert


def _chartqa(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    labels = row.texts("label") if isinstance(row.get("label"), list) else [row.text("label")]
    by = {0: "human", 1: "augmented"}.get(row.get("human_or_machine"))
    asked = Asked(text=row.text("query"), gold=text_gold(labels))
    return [make_question(origin, asked, picture=picture, meta={"written_by": by} if by else {})]


def _chartqa_test(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    asked = Asked(text=row.text("question"), gold=text_gold([row.text("answer")]))
    return [make_question(origin, asked, picture=picture, meta={"written_by": row.text("type").removesuffix("_test")})]


def _aokvqa(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    asked = Asked(text=row.text("question"), gold=aokvqa_gold(row))
    return [make_question(origin, asked, key=row.maybe_text("question_id"), picture=picture, meta=aokvqa_meta(row))]


def _ai2d(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    gold = choice_gold(row.texts("options"), row.integer("answer"))
    return [make_question(origin, Asked(text=row.text("question"), gold=gold), picture=picture)]


def _scienceqa(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    gold = choice_gold(row.texts("choices"), row.integer("answer"))
    asked = Asked(text=row.text("question"), gold=gold)
    hint = row.maybe_text("hint")
    return [make_question(origin, asked, picture=picture, hint=hint, meta=scienceqa_meta(row))]


def _docvqa(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    asked = Asked(text=row.text("question"), gold=docvqa_gold(row))
    return [make_question(origin, asked, key=row.maybe_text("questionId"), picture=picture)]


def _geoqa(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    known = row.get("label") is not None
    gold = choice_gold(row.texts("choices"), row.integer("label")) if known else open_choices(row.texts("choices"))
    return [
        make_question(origin, Asked(text=row.text("subject"), gold=gold), key=row.maybe_text("id"), picture=picture)
    ]


def _geoqa_problem(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    _one_token(row.text("problem"))
    asked = exchange_asked(Exchange(question=row.text("problem"), answer=row.text("answer")))
    return [make_question(origin, asked, picture=picture)]


def _clevr_math(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    gold = Gold() if row.get("label") is None else text_gold([answer_text(row.get("label"), "label")])
    asked = Asked(text=row.text("question"), gold=gold, meta={"family": row.text("template")})
    return [make_question(origin, asked, key=row.maybe_text("id"), picture=picture)]


def _cauldron(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    turns = row.get("texts")
    if not isinstance(turns, list) or not turns:
        raise RowFaultError("field 'texts' is no list of turns")
    fields = [Fields(turn) for turn in turns]
    _one_token("".join(turn.maybe_text("user") for turn in fields))
    said = [Exchange(question=turn.maybe_text("user"), answer=turn.maybe_text("assistant")) for turn in fields]
    meta = {"part": fields[0].maybe_text("source")} if fields[0].maybe_text("source") else {}
    return make_questions(origin, [exchange_asked(turn) for turn in said], picture=picture, meta=meta)


def _onevision(origin: Origin, row: Fields, picture: Picture | None) -> list[Question]:
    return conversation_questions(origin, row, lambda _: picture)


def _one_token(text: str) -> None:
    if (tokens := text.count(IMAGE_TOKEN)) > 1:
        raise RowFaultError(f"the row has {tokens} {IMAGE_TOKEN} tokens; only rows of one picture are read")


# The first whose columns are all there counts, so those with more to tell them by come first.
MIRRORS = (
    Mirror(source="aokvqa", columns=frozenset({"image", "question", "choices", "correct_choice_idx"}), convert=_aokvqa),
    Mirror(
        source="scienceqa", columns=frozenset({"image", "question", "choices", "answer", "lecture"}), convert=_scienceqa
    ),
    Mirror(source="docvqa", columns=frozenset({"image", "questionId", "question", "answers"}), convert=_docvqa),
    Mirror(source="clevr_math", columns=frozenset({"image", "template", "question", "label"}), convert=_clevr_math),
    Mirror(source="geoqa_plus", columns=frozenset({"image", "subject", "choices", "label"}), convert=_geoqa),
    Mirror(source="geoqa_plus", columns=frozenset({"images", "problem", "answer"}), convert=_geoqa_problem),
    Mirror(source="chartqa", columns=frozenset({"image", "query", "label"}), convert=_chartqa),
    Mirror(source="chartqa", columns=frozenset({"image", "type", "question", "answer"}), convert=_chartqa_test),
    Mirror(source="ai2d", columns=frozenset({"image", "question", "options", "answer"}), convert=_ai2d),
    Mirror(source="the_cauldron", columns=frozenset({"images", "texts"}), convert=_cauldron),
    Mirror(source="llava_onevision", columns=frozenset({"image", "conversations"}), convert=_onevision),
)


def mirror_of(columns: set[str]) -> Mirror | None:
    """The data set that a file with these columns is of."""
    return next((mirror for mirror in MIRRORS if mirror.columns <= columns), None)


def _home(root: Path) -> Path | None:
    if root.is_file():
        return root if _mirror(root) else None
    return root if root.is_dir() and any(_mirror(file) for file in _files(root)[:1]) else None


def _manifests(home: Path) -> list[Path]:
    return _files(home)


def _files(home: Path) -> list[Path]:
    return [home] if home.is_file() else existing_files(home, "*.parquet", "*/*.parquet")


def _mirror(file: Path) -> Mirror | None:
    if file.suffix != ".parquet":
        return None
    try:
        return mirror_of(set(open_parquet(file).schema_arrow.names))
    except InputError:
        return None


def _read(request: ReadRequest) -> Rows:
    folder = request.home.parent if request.home.is_file() else request.home
    for file in _files(request.home):
        split = plain_split(file.stem.split("-")[0])
        split = split if split in ("train", "val", "test") else ""
        if request.leaves_out(split):
            continue
        parquet = open_parquet(file)
        names = parquet.schema_arrow.names
        mirror = mirror_of(set(names))
        if mirror is None:
            raise InputError(f"{file}: its columns {', '.join(names)} are those of no known data set")
        origin = Origin(source=request.label or mirror.source, split=split, file=file.relative_to(folder).as_posix())

        def convert(row: Fields, origin: Origin = origin, mirror: Mirror = mirror) -> list[Question]:
            return mirror.convert(origin, row, _picture(row, request.image_root or folder))

        yield from guarded(origin, _rows(parquet, file), convert)


def _rows(parquet: pq.ParquetFile, file: Path) -> Iterator[Any]:
    """The rows, a few in memory at a time: they hold pictures."""
    try:
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: is broken: {error}") from error


def _picture(row: Fields, folder: Path) -> Picture | None:
    """The row's picture: bytes, or ``{bytes, path}``, or a list of one of them; None when it has none."""
    value = row.get("image") if "image" in row.raw else row.get("images")
    found = value if isinstance(value, list) else [value]
    found = [one for one in found if one is not None]
    if len(found) > 1:
        raise RowFaultError(f"the row has {len(found)} pictures; only rows of one are read")
    if not found:
        return None
    held = found[0]
    data, path = (held.get("bytes"), held.get("path")) if isinstance(held, dict) else (held, None)
    if isinstance(data, bytes) and data:
        return bytes_picture(data)
    if isinstance(path, str) and path:
        return file_picture(folder, path)
    raise RowFaultError(f"the picture is a {type(held).__name__} without bytes and path")


SOURCE = Source(
    info=SourceInfo(
        name="hub_parquet",
        title="Parquet of the Hugging Face Hub",
        task="ChartQA, A-OKVQA, AI2D, ScienceQA, DocVQA, GeoQA, CLEVR-Math, the_cauldron, LLaVA-OneVision",
        licence="as the data set",
        where="https://huggingface.co/datasets: HuggingFaceM4/ChartQA, HuggingFaceM4/A-OKVQA, lmms-lab/ai2d, "
        "lmms-lab/ScienceQA, lmms-lab/DocVQA, hz2475/geoQA, Yuting6/geoqa_plus, HuggingFaceM4/the_cauldron, "
        "lmms-lab/LLaVA-OneVision-Data",
        files=(ExpectedFile(pattern="**/*.parquet", what="rows with their pictures; {split}-00000-of-…"),),
        notes="which data set a file is of is told by its columns",
    ),
    find_home=_home,
    manifests=_manifests,
    read=_read,
)
