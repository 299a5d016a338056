"""What an annotation run holds, for whoever reads it: committed rows, wherever they are stored.

Reading only. The rows are those of ``schemas.ANNOTATED_SCHEMA``; a run may be unfinished.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import read_commits, read_run
from cluster.stores import open_store
from reasoning.errors import InputError

RUN_KIND = "annotate"
ACCEPTED = "accepted"
REJECTED = "rejected"


def committed_names(run: str | Path, part: str) -> list[str]:
    """The names of the committed Parquet files of ``part`` (``accepted`` or ``rejected``), relative to the run, sorted.

    Raises InputError when ``run`` is no annotation run.
    """
    read_run(run, kind=RUN_KIND)
    names = [name for commit in read_commits(run) for name in commit.files]
    return sorted(name for name in names if name.startswith(f"{part}/"))


def read_annotated(run: str | Path, part: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The committed rows of ``part``, a batch in memory at a time; raises InputError when ``run`` is none.

    Of ``columns`` those that a file does not have are left out: a run of an earlier version may lack some.
    """
    store = open_store(run)
    for name in committed_names(run, part):
        try:
            with store.open_file(name) as file:
                parquet = pq.ParquetFile(file)
                there = set(parquet.schema_arrow.names)
                chosen = None if columns is None else [column for column in columns if column in there]
                for batch in parquet.iter_batches(batch_size=256, columns=chosen):
                    yield from batch.to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"{run}/{name}: is committed but cannot be read: {error}; "
                "the run's folder was changed from outside, restore the file"
            ) from error


def accepted_ids(run: str | Path) -> list[str]:
    """The ids of all accepted rows. Raises InputError when ``run`` is no annotation run or accepted none."""
    ids = [row["id"] for row in read_annotated(run, ACCEPTED, ["id"])]
    if not ids:
        raise InputError(
            f"{run}: no row was accepted, so there is nothing to export; "
            "`rejected/` says why each row was not, run.json sums it up"
        )
    return ids


def digest_of(ids: Sequence[str]) -> str:
    """Sixteen hex digits that are the same for the same set of rows, however they lie in shards."""
    return hashlib.sha256("\x1f".join(sorted(ids)).encode()).hexdigest()[:16]


def committed_counts(run: str | Path) -> dict[str, int]:
    """The counts of all committed shards, summed by name: ``rows``, ``accepted``, ``rejected.<reason>`` and so on."""
    read_run(run, kind=RUN_KIND)
    totals: Counter[str] = Counter()
    for commit in read_commits(run):
        totals.update(commit.counts)
    return dict(totals)
