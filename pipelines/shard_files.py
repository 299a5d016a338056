"""A shard of an annotation run as files: written whole, marked as committed, read back."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import Commit, write_commit
from cluster.stores import Store
from pipelines.annotation_totals import count_rows
from pipelines.annotations import ACCEPTED, REJECTED
from pipelines.schemas import ANNOTATED_SCHEMA


def commit_shard(
    store: Store,
    key: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    lease: str,
    supersedes: tuple[str, ...] = (),
    generation: int = 0,
) -> Commit:
    """Write the accepted and the rejected rows, then the marker; raises as ``write_commit`` does."""
    files = []
    writing = uuid.uuid4().hex[:8]
    for part, is_accepted in ((ACCEPTED, True), (REJECTED, False)):
        chosen = [row for row in rows if row["is_accepted"] is is_accepted]
        if chosen:
            # A worker that outlived its run may still write this shard: never into the files of another.
            name = f"{part}/{key}-{writing}.parquet"
            buffer = io.BytesIO()
            table = pa.Table.from_pylist([dict(row) for row in chosen], schema=ANNOTATED_SCHEMA)
            pq.write_table(table, buffer, compression="zstd", use_dictionary=False)
            store.write(name, buffer.getvalue())
            files.append(name)
    commit = Commit(key=key, files=tuple(files), counts=count_rows(rows), supersedes=supersedes, generation=generation)
    write_commit(store.uri, commit, lease=lease)
    return commit


def read_commit_rows(store: Store, commit: Commit) -> list[dict[str, Any]]:
    """All rows of a committed shard, accepted ones first."""
    rows: list[dict[str, Any]] = []
    for name in commit.files:
        with store.open_file(name) as file:
            rows += pq.ParquetFile(file).read().to_pylist()
    return rows
