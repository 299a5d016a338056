"""Question Parquet as a source: checks it before a run starts, and cuts it into shards.

A shard is a piece of a file that one actor annotates and commits as a whole. The cut depends on the
files and ``shard_rows`` alone, so that every part of an interrupted run sees the same shards; its
key is a hash of its ids. Reading only. A folder is refused as a whole for what is wrong with all of
it (no file, no column, an id twice); what is wrong with one row is found later and rejects that row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.stores import Store, local_path, open_store
from pipelines.schemas import REQUIRED_QUESTION_COLUMNS
from reasoning.errors import InputError

MAX_ROW_GROUP_BYTES = 2 << 30
"""An actor reads a row group at a time; a larger one would not fit beside its work."""


@dataclass(frozen=True, kw_only=True)
class QuestionShard:
    """A piece of a row group of a question file."""

    key: str
    """A hash of the ids of the rows to do."""
    file: str
    row_group: int
    start: int
    """The first row, within the row group."""
    rows: int
    """Rows from there on, those in ``skip`` included."""
    skip: tuple[int, ...] = ()
    """Rows that are not to be done, counted from ``start``."""

    @property
    def todo(self) -> int:
        return self.rows - len(self.skip)


@dataclass(frozen=True, kw_only=True)
class QuestionPlan:
    """What there is to annotate."""

    root: str
    """What ``open_store`` opens the files by."""
    shards: tuple[QuestionShard, ...]
    dropped: int
    """Rows that were left out because their id is on the drop list."""

    @property
    def rows(self) -> int:
        return sum(shard.todo for shard in self.shards)


@dataclass(frozen=True, kw_only=True)
class _Group:
    file: str
    index: int
    ids: pa.Array


def plan_questions(
    where: str | Path, *, shard_rows: int, limit: int | None = None, drop: pa.Array | None = None
) -> QuestionPlan:
    """The shards of a question file or folder; of the first ``limit`` rows only, if given, less those in ``drop``.

    Raises InputError naming the file when it is missing, no Parquet, lacks a column, has a row group
    too large to read, or when an id is empty or stands twice: the id is what a resumed run knows a
    row by.
    """
    store, names = question_files(where)
    groups = list(_groups(store, names, limit))
    _check_unique(where, groups)
    shards: list[QuestionShard] = []
    dropped = 0
    for group in groups:
        left_out = frozenset(_positions(group.ids, drop)) if drop is not None else frozenset()
        dropped += len(left_out)
        shards += _cut(group, shard_rows, left_out)
    return QuestionPlan(root=store.uri, shards=tuple(shards), dropped=dropped)


def without_ids(plan: QuestionPlan, done: pa.Array) -> tuple[QuestionPlan, int]:
    """``plan`` less the rows with ids in ``done``, and how many of those ids are none of its rows'."""
    store = open_store(plan.root)
    found = 0
    shards: list[QuestionShard] = []
    for shard in plan.shards:
        ids = shard_ids(store, shard)
        gone = [index for index in _positions(ids, done) if index not in shard.skip]
        found += len(gone)
        if len(gone) < shard.todo:
            shards.append(_without(shard, ids, gone) if gone else shard)
    return replace(plan, shards=tuple(shards)), len(done) - found


def question_files(where: str | Path) -> tuple[Store, list[str]]:
    """The store that holds a question file or folder, and the names of its Parquet files in order."""
    local = local_path(where)
    text = str(where).rstrip("/")
    if local is not None and local.is_file():
        return open_store(local.parent), [local.name]
    if local is None and text.partition("?")[0].endswith(".parquet"):
        folder, _, name = text.rpartition("/")
        return open_store(folder), [name]
    if local is not None and not local.exists():
        raise InputError(f"{where}: does not exist; give a Parquet file or a folder of them")
    store = open_store(where)
    names = [name for name in store.names() if name.endswith(".parquet") and not name.startswith((".", "_"))]
    if not names:
        raise InputError(f"{where}: no *.parquet file in it")
    return store, names


def read_shard(store: Store, shard: QuestionShard) -> list[dict[str, Any]]:
    """The rows of a shard that are to be done, as plain values, in order."""
    with store.open_file(shard.file) as file:
        table = pq.ParquetFile(file).read_row_group(shard.row_group)
    rows = table.slice(shard.start, shard.rows).to_pylist()
    skip = frozenset(shard.skip)
    return [row for index, row in enumerate(rows) if index not in skip]


def shard_ids(store: Store, shard: QuestionShard) -> pa.Array:
    """The ids of a shard's rows, skipped ones included, in order."""
    with store.open_file(shard.file) as file:
        column = pq.ParquetFile(file).read_row_group(shard.row_group, columns=["id"]).column("id")
    return column.slice(shard.start, shard.rows).combine_chunks()


def shard_key(ids: Sequence[str]) -> str:
    """The shard's name: a hash of its ids, whatever their order."""
    return hashlib.sha256("\x1f".join(sorted(ids)).encode()).hexdigest()[:20]


def _groups(store: Store, names: Sequence[str], limit: int | None) -> Iterator[_Group]:
    left = limit
    for name in names:
        with store.open_file(name) as file:
            parquet = _opened(file, f"{store.uri}/{name}")
            missing = [c for c in REQUIRED_QUESTION_COLUMNS if c not in parquet.schema_arrow.names]
            if missing:
                raise InputError(f"{store.uri}/{name}: has no column {missing[0]!r}; a question shard needs it")
            for index in range(parquet.num_row_groups):
                if left is not None and left <= 0:
                    return
                size = parquet.metadata.row_group(index).total_byte_size
                if size > MAX_ROW_GROUP_BYTES:
                    raise InputError(
                        f"{store.uri}/{name}: row group {index} holds {size / 2**30:.1f} GiB, more than an actor "
                        "reads at once; cut it anew with `stagebeam sources prepare`"
                    )
                ids = parquet.read_row_group(index, columns=["id"]).column("id").combine_chunks()
                ids = ids if left is None else ids.slice(0, left)
                if not pa.types.is_string(ids.type) and not pa.types.is_large_string(ids.type):
                    raise InputError(f"{store.uri}/{name}: column 'id' must hold a text in every row")
                if ids.null_count or pc.any(pc.equal(ids, "")).as_py():
                    raise InputError(f"{store.uri}/{name}: column 'id' must hold a text in every row")
                left = None if left is None else left - len(ids)
                yield _Group(file=name, index=index, ids=ids.cast(pa.string()))


def _opened(file: Any, name: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: is no readable Parquet file: {error}") from error


def _check_unique(where: str | Path, groups: Sequence[_Group]) -> None:
    ids = pa.chunked_array([group.ids for group in groups], type=pa.string())
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    counts = pc.value_counts(ids)
    first = next(pair for pair in counts if pair["counts"].as_py() > 1)
    raise InputError(
        f"{where}: the id {first['values'].as_py()!r} stands in {first['counts']} rows; ids must be unique"
    )


def _cut(group: _Group, shard_rows: int, left_out: frozenset[int]) -> Iterator[QuestionShard]:
    for start in range(0, len(group.ids), shard_rows):
        ids = group.ids.slice(start, shard_rows)
        skip = [index for index in range(len(ids)) if start + index in left_out]
        shard = QuestionShard(key="", file=group.file, row_group=group.index, start=start, rows=len(ids))
        if len(skip) < len(ids):
            yield _without(shard, ids, skip)


def _without(shard: QuestionShard, ids: pa.Array, skip: Sequence[int]) -> QuestionShard:
    gone = frozenset((*shard.skip, *skip))
    left = [identity for index, identity in enumerate(ids.to_pylist()) if index not in gone]
    return replace(shard, key=shard_key(left), skip=tuple(sorted(gone)))


def _positions(ids: pa.Array, among: pa.Array) -> list[int]:
    return list(pc.indices_nonzero(pc.is_in(ids, value_set=among)).to_pylist())
