"""Parquet that ``datasets`` reads with its pictures as images.

The columns' types are told twice: as Arrow types, and as ``datasets`` features in the schema's
metadata, without which a picture would be read as two fields, ``bytes`` and ``path``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.stores import atomic_file
from pipelines.exports.config import TrlForm

ROWS_PER_GROUP = 100
"""Rows with pictures that are in memory at a time, for the writer and for whoever reads the file."""
_TEXT = {"dtype": "string", "_type": "Value"}
_MESSAGES_TYPE = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())]))),
        ]
    )
)
_MESSAGES_FEATURE = [{"role": _TEXT, "content": [{"type": _TEXT, "text": _TEXT}]}]
_IMAGES_TYPE = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def trl_schema(form: TrlForm) -> pa.Schema:
    """``id``, ``messages`` (or ``prompt`` and ``completion``) and ``images``, with the features of ``datasets``."""
    names = ("messages",) if form is TrlForm.MESSAGES else ("prompt", "completion")
    features: dict[str, Any] = {"id": _TEXT, **dict.fromkeys(names, _MESSAGES_FEATURE), "images": [{"_type": "Image"}]}
    columns = [("id", pa.string()), *((name, _MESSAGES_TYPE) for name in names), ("images", _IMAGES_TYPE)]
    return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def write_trl(folder: Path, rows: Iterable[Mapping[str, Any]], *, form: TrlForm, rows_per_file: int) -> list[str]:
    """Files ``train-00000.parquet`` and on in ``folder``, each whole or not at all; answers with their names."""
    schema = trl_schema(form)
    waiting = iter(rows)
    names: list[str] = []
    while (first := next(waiting, None)) is not None:
        name = f"train-{len(names):05d}.parquet"
        part = chain([first], islice(waiting, rows_per_file - 1))
        with atomic_file(folder / name) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
            while group := list(islice(part, ROWS_PER_GROUP)):
                writer.write_table(pa.Table.from_pylist([dict(row) for row in group], schema=schema))
        names.append(name)
    return names
