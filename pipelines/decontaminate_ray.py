"""The shell that maps work over shards with Ray Data; order of the results is nobody's promise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from cluster.connect import ray_session
from pipelines.sources.parquet import QuestionShard

READER_CPUS = 0.25
"""What Ray Data's range needs beside the tasks."""


class _Worker:
    """Does one shard after another; loads the work once."""

    def __init__(self, work: Any, shards: Any) -> None:
        """References into Ray's object store."""
        import ray

        self._work: Callable[[QuestionShard], pa.Table] = ray.get(work)
        self._shards: Sequence[QuestionShard] = ray.get(shards)

    def __call__(self, batch: pa.Table) -> pa.Table:
        tables = [self._work(self._shards[number]) for number in batch.column("id").to_pylist()]
        return pa.concat_tables(tables)


def map_shards(
    work: Callable[[QuestionShard], pa.Table], shards: Sequence[QuestionShard], address: str | None
) -> Iterator[pa.Table]:
    """``work`` of every shard, on the Ray this process is connected to, the one at ``address``, or one of our own.

    One worker for each CPU but one, and no more than there are shards.
    """
    if not shards:
        return
    cpus = max(2, os.cpu_count() or 2)
    with ray_session(address, num_cpus=cpus) as cluster:
        import ray
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        workers = max(1, min(len(shards), int(cluster.cpus) - 1))
        mapped = ray.data.range(len(shards), override_num_blocks=len(shards)).map_batches(
            _Worker,
            fn_constructor_args=(ray.put(work), ray.put(list(shards))),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        yield from mapped.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
