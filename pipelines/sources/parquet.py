"""Question shards as a source: checks a folder before a run starts on it, then reads it with Ray Data.

Reading only. A folder is refused as a whole for what is wrong with all of it (no file, no column,
an id twice); what is wrong with one row is found later and rejects that row.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from pipelines.schemas import REQUIRED_QUESTION_COLUMNS, open_parquet, parquet_files
from reasoning.errors import InputError


@dataclass(frozen=True, kw_only=True)
class QuestionFolder:
    """A checked folder of question shards."""

    files: tuple[Path, ...]
    ids: frozenset[str]

    @property
    def rows(self) -> int:
        return len(self.ids)


def check_questions(path: Path, *, limit: int | None = None) -> QuestionFolder:
    """Read the ids of a file or folder; the first ``limit`` only, if given.

    Raises InputError naming the file when it is missing, no Parquet, lacks a column, or when an id
    is empty or stands twice: the id is what a resumed run knows a row by.
    """
    files = parquet_files(path)
    counts: Counter[str] = Counter()
    used: list[Path] = []
    for file in files:
        if limit is not None and counts.total() >= limit:
            break
        parquet = open_parquet(file)
        missing = [name for name in REQUIRED_QUESTION_COLUMNS if name not in parquet.schema_arrow.names]
        if missing:
            raise InputError(f"{file}: has no column {missing[0]!r}; a question shard needs it")
        ids = parquet.read(columns=["id"]).column("id").to_pylist()
        if limit is not None:
            ids = ids[: limit - counts.total()]
        if not all(isinstance(identity, str) and identity for identity in ids):
            raise InputError(f"{file}: column 'id' must hold a text in every row")
        counts.update(ids)
        used.append(file)
    doubled = [identity for identity, number in counts.most_common(3) if number > 1]
    if doubled:
        raise InputError(f"{path}: the id {doubled[0]!r} stands in {counts[doubled[0]]} rows; ids must be unique")
    return QuestionFolder(files=tuple(used), ids=frozenset(counts))


def pending_rows(folder: QuestionFolder, done: frozenset[str], *, rows_per_block: int) -> Any:
    """A Ray dataset of the rows whose ids are in ``folder`` and not in ``done``, in blocks of that size."""
    import ray
    import ray.data

    wanted = ray.put(pa.array(sorted(folder.ids - done), type=pa.string()))

    def keep_pending(table: pa.Table) -> pa.Table:
        import pyarrow.compute as pc

        return table.filter(pc.is_in(table.column("id"), value_set=cast(pa.Array, ray.get(wanted))))

    rows = ray.data.read_parquet([str(file.resolve()) for file in folder.files])
    rows = rows.map_batches(keep_pending, batch_format="pyarrow", batch_size=None, zero_copy_batch=True, num_cpus=0.25)
    return rows.repartition(target_num_rows_per_block=rows_per_block)
