"""Ray Data's own checkpoint under SIGKILL: rows lost, rows doubled, calls made twice.

Each run reads question rows, makes a slow call for each, and writes Parquet with
``ray.data.checkpoint.CheckpointConfig``; its driver is killed at a random moment and started again
until it ends. Calls are counted in a file that is written before each call returns. The page
``annotate_chaos.md`` compares the figures with those of our own commits.

    python -m benchmarks.ray_checkpoint --runs 8
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 240
CALL_S = 0.25
ROWS_A_BLOCK = 20
LONGEST_S = 120.0


class Call:
    """One slow call a row, a block at a time; each finished call leaves a line."""

    def __init__(self, ledger: str) -> None:
        self._ledger = ledger

    async def __call__(self, batch: pa.Table) -> pa.Table:
        import asyncio

        slots = asyncio.Semaphore(8)

        async def one(identity: str) -> None:
            async with slots:
                await asyncio.sleep(CALL_S)
                self._note(identity)

        await asyncio.gather(*(one(identity) for identity in batch.column("id").to_pylist()))
        return batch

    def _note(self, identity: str) -> None:
        with open(self._ledger, "a") as file:
            file.write(identity + "\n")


def drive(folder: Path, *, source: str) -> None:
    """One part of a run, in a process of its own."""
    import ray.data
    from ray.data.checkpoint import CheckpointConfig

    from cluster.connect import start_local

    with start_local(6):
        context: Any = ray.data.DataContext.get_current()
        context.checkpoint_config = CheckpointConfig(
            id_column="id", checkpoint_path=str(folder / "checkpoint"), delete_checkpoint_on_success=False
        )
        if source == "parquet":
            rows = ray.data.read_parquet(str(folder / "in"))
        else:
            rows = ray.data.from_arrow(pq.read_table(folder / "in"))
        rows = rows.repartition(target_num_rows_per_block=ROWS_A_BLOCK)
        rows.map_batches(
            Call,
            fn_constructor_args=(str(folder / "calls.txt"),),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=0.5,
            compute=ray.data.ActorPoolStrategy(size=1),
        ).write_parquet(str(folder / "out"))


def one_run(seed: int, *, source: str) -> dict[str, int]:
    """Kill and resume until done; the counts."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="sb-ck-") as name:
        folder = Path(name)
        (folder / "in").mkdir()
        ids = [f"row-{i:04d}" for i in range(ROWS)]
        for part in range(4):
            pq.write_table(pa.table({"id": ids[part::4]}), folder / "in" / f"{part}.parquet")
        kills = 0
        for attempt in range(4):
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.ray_checkpoint", "--drive", name, "--source", source],
                start_new_session=True,
            )
            deadline = time.monotonic() + LONGEST_S
            lines_before = _lines(folder / "calls.txt")
            kill_at = lines_before + draw.randint(20, ROWS - 40) if attempt < 2 else None
            while process.poll() is None:
                if time.monotonic() > deadline:
                    print(f"  attempt {attempt}: no end after {LONGEST_S:g} s", flush=True)
                    _kill(process)
                elif kill_at is not None and _lines(folder / "calls.txt") >= kill_at:
                    _kill(process)
                    kills += 1
                time.sleep(0.05)
            if process.returncode == 0:
                break
        files = list((folder / "out").glob("*.parquet"))
        found = Counter(i for file in files for i in pq.read_table(file).column("id").to_pylist())
        calls = Counter((folder / "calls.txt").read_text().split())
        return {
            "kills": kills,
            "lost": len(set(ids) - set(found)),
            "doubled": sum(n - 1 for n in found.values()),
            "calls_again": sum(n - 1 for n in calls.values()),
        }


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _kill(process: subprocess.Popen[bytes]) -> None:
    own = psutil.Process(process.pid)
    children = own.children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--source", choices=("parquet", "memory"), default="parquet")
    parser.add_argument("--drive", type=Path)
    given = parser.parse_args()
    if given.drive is not None:
        drive(given.drive, source=given.source)
        return
    total: Counter[str] = Counter()
    for seed in range(given.runs):
        counts = one_run(seed, source=given.source)
        print(f"run {seed}: {counts}", flush=True)
        total.update(counts)
    print(f"{given.runs} runs of {ROWS} rows, source {given.source}: {dict(total)}")


if __name__ == "__main__":
    main()
