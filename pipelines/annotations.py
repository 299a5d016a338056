"""What an annotation run holds, for whoever reads it: committed rows, wherever they are stored.

Reading only. The rows are those of ``schemas.ANNOTATED_SCHEMA``; a run may be unfinished.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cluster.storage import read_commits, read_run
from cluster.stores import open_store

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
    """The committed rows of ``part``, a batch in memory at a time; raises InputError when ``run`` is none."""
    store = open_store(run)
    for name in committed_names(run, part):
        with store.open_file(name) as file:
            chosen = list(columns) if columns else None
            for batch in pq.ParquetFile(file).iter_batches(batch_size=256, columns=chosen):
                yield from batch.to_pylist()
