"""SFT shards to the rows each worker sees: survey, one seeded order, streaming split, windows.

The order is a sort by a hash of seed and row, so it does not depend on how the shards are cut or on
which task read them first. With equal splits, preserved order and no locality every worker gets the
same rows again after a restart, and skipping what a checkpoint has seen is a count.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from reasoning.errors import InputError
from reasoning.records import RowKind
from train.batches import batch_rows
from train.config import TrainConfig

COLUMNS = ("id", "kind", "image", "prompt", "response")
HISTORY = pa.field("history", pa.list_(pa.struct([("question", pa.string()), ("answer", pa.string())])))
"""Earlier turns; shards without this column have none."""
_TEXT_COLUMNS = ("id", "kind", "prompt", "response")
_BLOCK_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What lies in some shards: rows of each kind, and a digest of all rows but their pictures."""

    files: tuple[str, ...]
    rows: dict[str, int]
    digest: str

    def rows_per_epoch(self, repeats: Mapping[RowKind, int]) -> int:
        """Rows when each kind is repeated as asked."""
        return sum(count * repeats.get(RowKind(kind), 1) for kind, count in self.rows.items())


def survey(folders: Sequence[Path]) -> Survey:
    """Read every shard's text columns once.

    The digest does not depend on file names or on the order of files. Raises InputError for a folder
    without shards, a shard that cannot be read, a missing column, an unknown kind or an empty response.
    """
    files = [file for folder in folders for file in _shards(folder)]
    kinds: Counter[str] = Counter()
    digests = []
    for file in files:
        digest = hashlib.sha256()
        for batch in _batches(file):
            kinds.update(batch.column("kind").to_pylist())
            for row in batch.to_pylist():
                _check_row(file, row)
                digest.update(_text(row).encode())
        digests.append(digest.hexdigest())
    whole = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return Survey(files=tuple(map(str, files)), rows=dict(sorted(kinds.items())), digest=whole[:16])


def ordered_rows(
    found: Survey, *, seed: int, repeats: Mapping[RowKind, int], workers: int, small_bytes: int = 256 << 20
) -> ray.data.Dataset:
    """All rows of an epoch in their seeded order, in Ray's object store, in blocks that split evenly.

    Shards of up to ``small_bytes`` together are ordered in this process: starting Ray's workers for a
    distributed sort took longer than the sort. The order is the same either way.
    """
    rows = found.rows_per_epoch(repeats)
    blocks = max(1, -(-rows // (_BLOCK_ROWS * workers))) * workers
    counts = {kind.value: repeats.get(kind, 1) for kind in RowKind}
    if sum(Path(file).stat().st_size for file in found.files) <= small_bytes:
        ordered = ordered_table(found.files, seed=seed, counts=counts)
        # Not from_arrow, which starts workers to ask them for the number of rows: 2 s of CPU time each.
        return ray.data.from_blocks([_slice(ordered, block, blocks) for block in range(blocks)])
    return (
        ray.data.read_parquet(list(found.files), schema=_schema(found.files[0]))
        .select_columns([*COLUMNS, HISTORY.name])
        .map_batches(_with_order, batch_format="pyarrow", batch_size=None, fn_kwargs={"seed": seed, "repeats": counts})
        .sort("order")
        .repartition(blocks)
        .materialize()
    )


def ordered_table(files: Sequence[str], *, seed: int, counts: Mapping[str, int]) -> pa.Table:
    """All rows of some shards in their seeded order, ``counts[kind]`` times each; the order itself as a column."""
    columns = [*COLUMNS, HISTORY.name]
    whole = pa.concat_tables([pq.read_table(file, columns=columns, schema=_schema(file)) for file in files])
    return _with_order(whole, seed, counts).sort_by("order")


def epoch_batches(
    tables: Iterable[pa.Table], config: TrainConfig, *, epoch: int, rank: int, skip: int
) -> Iterator[list[dict[str, Any]]]:
    """The batches of one worker's epoch, as lists of rows, without the first ``skip``.

    ``tables`` are its windows of ``config.window_rows`` rows, the last one shorter. What is skipped is
    read but not decoded.
    """
    for number, table in enumerate(tables):
        place = f"{config.seed}/{epoch}/{number}"
        batches = batch_rows(
            _lengths(table), config.batch_size_per_worker, row_seed=f"{place}/{rank}", batch_seed=place
        )
        done = min(skip, len(batches))
        skip -= done
        for batch in batches[done:]:
            yield table.take(batch).to_pylist()


def plain_batches(tables: Iterable[pa.Table], batch_size: int) -> Iterator[list[dict[str, Any]]]:
    """Batches in the order of the rows, the last one shorter; for the evaluation."""
    for table in tables:
        for start in range(0, table.num_rows, batch_size):
            yield table.slice(start, batch_size).to_pylist()


def _with_order(table: pa.Table, seed: int, repeats: Mapping[str, int]) -> pa.Table:
    """Each row as often as its kind is repeated, with a hash of seed, row and repeat as ``order``."""
    taken: list[int] = []
    order: list[str] = []
    for index, row in enumerate(table.select([*_TEXT_COLUMNS, HISTORY.name]).to_pylist()):
        text = _text(row)
        for repeat in range(repeats[row["kind"]]):
            taken.append(index)
            order.append(hashlib.sha256(f"{seed}/{repeat}/{text}".encode()).hexdigest()[:24])
    return table.take(pa.array(taken, pa.int64())).append_column("order", pa.array(order, pa.string()))


def _text(row: Mapping[str, Any]) -> str:
    """What tells a row from others, its picture aside."""
    turns = [text for turn in row.get(HISTORY.name) or () for text in (turn["question"], turn["answer"])]
    return "\x1f".join([*(row[name] for name in _TEXT_COLUMNS), *turns])


def _lengths(table: pa.Table) -> list[int]:
    """Characters of each row, earlier turns included."""
    texts = pc.add(pc.utf8_length(table["prompt"]), pc.utf8_length(table["response"])).to_pylist()
    return [
        length + sum(len(turn["question"]) + len(turn["answer"]) for turn in turns or ())
        for length, turns in zip(texts, table[HISTORY.name].to_pylist(), strict=True)
    ]


def _schema(file: str) -> pa.Schema:
    """The columns as the file has them, and ``history`` whether it has it or not: a reader fills it with nulls."""
    found = pq.read_schema(file)
    return pa.schema([*(found.field(name) for name in COLUMNS), HISTORY])


def _slice(table: pa.Table, number: int, count: int) -> pa.Table:
    """Part ``number`` of ``count`` parts of nearly equal length, copied so that it does not carry the rest along."""
    start, end = number * table.num_rows // count, (number + 1) * table.num_rows // count
    return table.take(pa.array(range(start, end), pa.int64()))


def _shards(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"TrainConfig.data: {folder} is no folder")
    files = sorted(path for path in folder.rglob("*.parquet") if not path.name.startswith("."))
    if not files:
        raise InputError(f"TrainConfig.data: {folder} holds no .parquet shard; export one with the annotation run")
    return files


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet: {error}") from error
    missing = [name for name in COLUMNS if name not in parquet.schema_arrow.names]
    if missing:
        raise InputError(f"{file} lacks the column {missing[0]!r}; a training shard has {', '.join(COLUMNS)}")
    columns = list(_TEXT_COLUMNS)
    if HISTORY.name in parquet.schema_arrow.names:
        found = parquet.schema_arrow.field(HISTORY.name).type
        if not _holds_turns(found):
            raise InputError(f"{file}: column 'history' is {found}; in a training shard it is {HISTORY.type}")
        columns.append(HISTORY.name)
    yield from parquet.iter_batches(columns=columns, batch_size=4096)


def _holds_turns(kind: pa.DataType) -> bool:
    """Whether a column of this type can be cast to that of ``HISTORY``: other writers have larger lists and texts."""
    if pa.types.is_null(kind):
        return True
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_list or not pa.types.is_struct(kind.value_type):
        return False
    texts = {field.name for field in kind.value_type if field.type in (pa.string(), pa.large_string())}
    return {"question", "answer"} <= texts


def _check_row(file: Path, row: Mapping[str, Any]) -> None:
    for name in _TEXT_COLUMNS:
        if not isinstance(row[name], str):
            raise InputError(f"{file}: row {row['id']!r} has no text in column {name!r}")
    for turn in row.get(HISTORY.name) or ():
        if turn is None or turn["question"] is None or turn["answer"] is None:
            raise InputError(f"{file}: row {row['id']!r}: an earlier turn in column 'history' lacks question or answer")
    if row["kind"] not in set(RowKind):
        raise InputError(f"{file}: row {row['id']!r} is of the unknown kind {row['kind']!r}")
    if not row["response"].strip():
        raise InputError(f"{file}: row {row['id']!r} has an empty response")
