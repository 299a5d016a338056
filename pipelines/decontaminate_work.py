"""What runs on the workers: a shard of questions to looks, or to matches. Needs no Ray itself.

A picture that cannot be read is a row with its fault, never an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from actors.images import load_image
from cluster.stores import open_store
from pipelines.decontaminate_match import BenchmarkIndex, Look, coarse_look, look_of, words_of
from pipelines.schemas import image_from_value
from pipelines.sources.parquet import QuestionShard, read_shard
from reasoning.errors import ImageError
from reasoning.records import ImageRef

FLAT = "all but one colour"
LOOKS_SCHEMA = pa.schema(
    [("id", pa.string()), ("bits", pa.binary()), ("thumbnail", pa.binary()), ("fault", pa.string())]
)
_MATCH_FIELDS = [
    ("kind", pa.string()),
    ("benchmark", pa.string()),
    ("row", pa.string()),
    ("distance", pa.int32()),
    ("overlap", pa.float32()),
    ("text", pa.string()),
]
FOUND_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.binary(16)),
        ("conversation", pa.string()),
        ("fault", pa.string()),
        ("text", pa.string()),
        ("matches", pa.list_(pa.struct(_MATCH_FIELDS))),
    ]
)
"""``key`` is equal for duplicates; ``text`` is there where something matched."""


@dataclass(frozen=True, kw_only=True)
class Glance:
    """A picture as far as it could be looked at."""

    look: Look | None
    fault: str
    """Why there is none; empty without a picture too."""


def glance(ref: ImageRef | None, hash_bits: int) -> Glance:
    """The look of a picture, or what is wrong with it."""
    if ref is None:
        return Glance(look=None, fault="")
    try:
        look = look_of(load_image(ref), hash_bits)
    except ImageError as error:
        # Without the name, so that faults can be counted.
        return Glance(look=None, fault=str(error).replace(ref.uri, "its address") if ref.uri else str(error))
    return Glance(look=look, fault="" if look is not None else FLAT)


@dataclass(frozen=True, kw_only=True)
class LookAtPictures:
    """Callable: a shard of a benchmark's rows to their looks."""

    root: str
    hash_bits: int

    def __call__(self, shard: QuestionShard) -> pa.Table:
        """Columns of ``LOOKS_SCHEMA``."""
        rows = []
        for row in read_shard(open_store(self.root), shard):
            seen = glance(image_from_value(row.get("image")), self.hash_bits)
            look = seen.look
            rows.append(
                {
                    "id": row["id"],
                    "bits": None if look is None else look.bits.tobytes(),
                    "thumbnail": None if look is None else look.thumbnail.tobytes(),
                    "fault": seen.fault,
                }
            )
        return pa.Table.from_pylist(rows, schema=LOOKS_SCHEMA)


@dataclass(frozen=True, kw_only=True)
class FindMatches:
    """Callable: a shard of questions to what each was found to be."""

    root: str
    hash_bits: int
    index: BenchmarkIndex

    def __call__(self, shard: QuestionShard) -> pa.Table:
        """Columns of ``FOUND_SCHEMA``, a row for each question."""
        rows = [self._found(row) for row in read_shard(open_store(self.root), shard)]
        return pa.Table.from_pylist(rows, schema=FOUND_SCHEMA)

    def _found(self, row: Mapping[str, Any]) -> dict[str, Any]:
        ref = image_from_value(row.get("image"))
        seen = glance(ref, self.hash_bits)
        text = str(row.get("question") or "")
        matches = self.index.matches(text, seen.look)
        return {
            "id": row["id"],
            "key": duplicate_key(row, ref, seen.look),
            "conversation": row.get("conversation_id") or "",
            "fault": seen.fault,
            "text": text if matches else None,
            "matches": [
                {
                    "kind": match.kind.value,
                    "benchmark": match.benchmark,
                    "row": match.row,
                    "distance": match.distance,
                    "overlap": match.overlap,
                    "text": match.text,
                }
                for match in matches
            ],
        }


def duplicate_key(row: Mapping[str, Any], ref: ImageRef | None, look: Look | None) -> bytes:
    """Equal for questions with the same picture, words, options, answer and earlier turns.

    A picture without look counts as the same if its bytes or its URI are.
    """
    picture = b"" if ref is None else ref.key.encode() if look is None else coarse_look(look)
    texts = [" ".join(words_of(str(row.get("question") or "")))]
    texts += [" ".join(str(choice).casefold().split()) for choice in row.get("choices") or ()]
    texts.append(" ".join(str(row.get("answer") or "").casefold().split()))
    texts += [f"{turn['question']}\x1e{turn['answer']}" for turn in row.get("history") or ()]
    whole = picture + b"\x1f" + "\x1f".join(texts).encode("utf-8", "replace")
    return hashlib.blake2b(whole, digest_size=16).digest()


def look_from_row(row: Mapping[str, Any]) -> Look | None:
    """The look in a row of ``LOOKS_SCHEMA``."""
    if row["bits"] is None:
        return None
    return Look(
        bits=np.frombuffer(row["bits"], dtype=np.uint64), thumbnail=np.frombuffer(row["thumbnail"], dtype=np.uint8)
    )
