"""Questions of one or several data sets, sampled and written as question shards.

Reads each source row by row, drops exact doubles, leaves out what is not wanted (counted by cause)
and keeps rows that are no usable question with what is wrong with them. Sampling needs two passes:
one over the identities, one that writes. Whether an answer is right is nobody's business here.
"""

from __future__ import annotations

import hashlib
import heapq
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import RUN_FILE, RunFolder, read_run
from cluster.stores import open_store
from pipelines.schemas import QUESTION_SCHEMA, question_to_row
from pipelines.sources.base import FAULT, Rows, Skipped, Source, SourceSpec
from pipelines.sources.catalogue import choose_source
from pipelines.sources.fingerprint import check_inputs, fingerprint, spec_identity
from pipelines.sources.seen import SeenKeys
from reasoning.errors import InputError
from reasoning.records import Question

RUN_KIND = "questions"
MAX_FILE_BYTES = 64 << 20
"""Pictures in a shard before it is written, whatever its rows: what a run holds in memory."""
_ROWS_PER_GROUP = 256
"""Whoever annotates a piece of a shard reads the row group around it."""
_SHOWN_FAULTS = 20
_OTHER_FAULTS = "(other faults)"
_REPORT_EVERY = 500


@dataclass(frozen=True, kw_only=True)
class SourceCounts:
    """What became of one source's rows."""

    name: str
    path: str
    questions: int
    """Rows written, those with a fault included."""
    entries: int
    """The same without faults, a conversation of several turns counted once: what ``take`` counts."""
    split: str | None
    asked_for: int | None
    """``take``."""
    faults: dict[str, int]
    """Rows that are no usable question, by what is wrong with them. Where ``take`` samples they are not written."""
    doubles: int
    """Rows equal to an earlier one in everything; not written."""
    skipped: dict[str, int]
    """Rows left out on purpose, by cause."""


@dataclass(frozen=True, kw_only=True)
class PreparedQuestions:
    """A finished folder of question shards."""

    output: str
    files: tuple[str, ...]
    sources: tuple[SourceCounts, ...]
    was_done: bool = False
    """The folder was finished before; nothing was read or written."""

    @property
    def rows(self) -> int:
        return sum(source.questions for source in self.sources)

    @property
    def doubles(self) -> int:
        return sum(source.doubles for source in self.sources)

    @property
    def faults(self) -> int:
        return sum(sum(source.faults.values()) for source in self.sources)

    @property
    def skipped(self) -> dict[str, int]:
        """Rows left out on purpose, by cause, the most frequent first."""
        total: Counter[str] = Counter()
        for source in self.sources:
            total.update(source.skipped)
        return dict(total.most_common())


@dataclass(frozen=True, kw_only=True)
class PrepareProgress:
    """How far a run is."""

    source: str
    is_sampling: bool
    """The first of two passes: rows are looked at, not written."""
    read: int
    """Rows of this source read in this pass."""
    written: int
    """Rows written, all sources together."""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A source of the mix, found on disk."""

    spec: SourceSpec
    source: Source
    home: Path

    @property
    def label(self) -> str:
        return self.spec.label or self.source.name


@dataclass
class _Tally:
    """The counts of one source while it is read."""

    questions: int = 0
    entries: int = 0
    doubles: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    last_entry: str = ""

    def add_entry(self, entry: str) -> None:
        """The turns of a conversation follow each other."""
        self.entries += entry != self.last_entry
        self.last_entry = entry

    def add_fault(self, what: str) -> None:
        # Messages quote values: of a file that is wrong throughout each would be another.
        is_shown = what in self.faults or len(self.faults) < _SHOWN_FAULTS
        self.faults[what if is_shown else _OTHER_FAULTS] += 1


OnProgress = Callable[[PrepareProgress], None]


def prepare_questions(
    specs: Sequence[SourceSpec],
    output: str | Path,
    *,
    seed: int,
    on_progress: OnProgress | None = None,
    rows_per_file: int = 2000,
) -> PreparedQuestions:
    """Write the sources' questions to ``output`` (a folder or an object store's URI), in order, as question shards.

    The same specs, seed and files give the same shards. A finished folder is answered as it is; one
    that was interrupted is written anew. Raises OutputMismatchError when the folder was made of other
    sources, another seed, or of files that changed since; InputError when a source cannot be read or
    gives no row at all.
    """
    if not specs:
        raise InputError("no source is given; a mix needs at least one")
    plans = [_plan(spec) for spec in specs]
    identity = {
        "seed": seed,
        "rows_per_file": rows_per_file,
        "sources": [spec_identity(plan.spec, plan.source) for plan in plans],
        "inputs": {f"{number} {plan.label}": fingerprint(plan.source, plan.home) for number, plan in enumerate(plans)},
    }
    check_inputs(output, identity, kind=RUN_KIND)
    with RunFolder(output, kind=RUN_KIND, identity=identity) as run:
        done = finished_questions(output)
        if done is not None:
            return done
        for name in run.store.names():
            if name.endswith(".parquet"):
                run.store.remove(name)
        writer = _ShardWriter(run, rows_per_file)
        seen = SeenKeys()
        counts = [_read_source(plan, seed, seen, writer, on_progress) for plan in plans]
        writer.flush()
        prepared = PreparedQuestions(output=str(output), files=tuple(writer.files), sources=tuple(counts))
        if prepared.rows == 0:
            paths = ", ".join(str(plan.spec.path) for plan in plans)
            raise InputError(f"no question is left of {paths}: {_why_none(prepared)}")
        run.record(files=list(prepared.files), result=[asdict(source) for source in counts])
        return prepared


def finished_questions(output: str | Path) -> PreparedQuestions | None:
    """What a finished folder holds; None for one that is not there, not ours, or not finished."""
    if not open_store(output).exists(RUN_FILE):
        return None
    try:
        found = read_run(output, kind=RUN_KIND)
    except InputError:
        return None
    if "result" not in found:
        return None
    sources = tuple(SourceCounts(**counts) for counts in found["result"])
    return PreparedQuestions(output=str(output), files=tuple(found["files"]), sources=sources, was_done=True)


class _ShardWriter:
    """Question shards in a run folder, each written once it is full."""

    def __init__(self, run: RunFolder, rows_per_file: int) -> None:
        self._run = run
        self._rows_per_file = rows_per_file
        self._held: list[dict[str, Any]] = []
        self._bytes = 0
        self.files: list[str] = []
        self.written = 0

    def add(self, question: Question) -> None:
        self._held.append(question_to_row(question))
        self._bytes += len(question.image.data or b"") if question.image else 0
        self.written += 1
        if len(self._held) >= self._rows_per_file or self._bytes >= MAX_FILE_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._held:
            return
        buffer = io.BytesIO()
        table = pa.Table.from_pylist(self._held, schema=QUESTION_SCHEMA)
        pq.write_table(table, buffer, compression="zstd", use_dictionary=False, row_group_size=_ROWS_PER_GROUP)
        name = f"part-{len(self.files):05d}.parquet"
        self._run.store.write(name, buffer.getvalue())
        self.files.append(name)
        self._held, self._bytes = [], 0


def _read_source(
    plan: _Plan, seed: int, seen: SeenKeys, writer: _ShardWriter, on_progress: OnProgress | None
) -> SourceCounts:
    """Both passes over one source; its kept rows go to ``writer``."""

    def told(rows: Rows, *, is_sampling: bool) -> Rows:
        for number, row in enumerate(rows):
            if on_progress is not None and number % _REPORT_EVERY == 0:
                news = PrepareProgress(source=plan.label, is_sampling=is_sampling, read=number, written=writer.written)
                on_progress(news)
            yield row

    limit = None
    if plan.spec.take is not None:
        rows = plan.source.read(plan.spec.request(plan.home, draws=False))
        limit = _highest_rank(plan.spec, told(rows, is_sampling=True), seed, seen)
    tally = _Tally()
    for row in told(plan.source.read(plan.spec.request(plan.home)), is_sampling=False):
        if _is_kept(row, plan.spec, limit, seed, seen, tally):
            writer.add(row)
    return SourceCounts(
        name=plan.label,
        path=str(plan.spec.path),
        questions=tally.questions,
        entries=tally.entries,
        split=plan.spec.split,
        asked_for=plan.spec.take,
        faults=dict(tally.faults.most_common()),
        doubles=tally.doubles,
        skipped=dict(tally.skipped.most_common()),
    )


def _is_kept(
    row: Question | Skipped, spec: SourceSpec, limit: int | None, seed: int, seen: SeenKeys, tally: _Tally
) -> TypeGuard[Question]:
    """Whether a row is written; counted either way, unless it only was not drawn."""
    cause = skip_cause(row, spec)
    if isinstance(row, Skipped) or cause is not None:
        tally.skipped[str(cause)] += 1
        return False
    is_faulty = FAULT in row.meta
    if limit is not None and not is_faulty and entry_rank(row, seed) > limit:
        return False
    if not seen.add(row.id):
        tally.doubles += 1
        return False
    if is_faulty:
        tally.add_fault(row.meta[FAULT])
        if limit is not None:
            return False
    else:
        tally.add_entry(row.conversation_id or row.id)
    tally.questions += 1
    return True


def _highest_rank(spec: SourceSpec, rows: Rows, seed: int, seen: SeenKeys) -> int | None:
    """The rank of the last entry that is drawn; None when there are no more than wanted."""
    lowest: list[int] = []
    drawn: set[int] = set()
    more = False
    for row in rows:
        if isinstance(row, Skipped) or spec.skip_cause(row) is not None or FAULT in row.meta or row.id in seen:
            continue
        rank = entry_rank(row, seed)
        if rank in drawn:
            continue
        if len(lowest) < (spec.take or 0):
            heapq.heappush(lowest, -rank)
            drawn.add(rank)
            continue
        more = True
        if rank < -lowest[0]:
            drawn.discard(-heapq.heapreplace(lowest, -rank))
            drawn.add(rank)
    return -lowest[0] if more and lowest else None


def entry_rank(question: Question, seed: int) -> int:
    """Where an entry stands in the seed's order; all turns of a conversation have the same."""
    entry = question.conversation_id or question.id
    return int.from_bytes(hashlib.sha256(f"{seed}\x1f{entry}".encode()).digest()[:16], "big")


def skip_cause(row: Question | Skipped, spec: SourceSpec) -> str | None:
    """Why a row is left out on purpose, by its source or by what was asked for."""
    return row.cause if isinstance(row, Skipped) else spec.skip_cause(row)


def _plan(spec: SourceSpec) -> _Plan:
    source, home = choose_source(spec.path, spec.name)
    return _Plan(spec=spec, source=source, home=home)


def _why_none(prepared: PreparedQuestions) -> str:
    splits = sorted({source.split for source in prepared.sources if source.split})
    causes = [f"{count:,} left out {cause}" for cause, count in prepared.skipped.items()]
    if splits:
        causes.append(f"only split {', '.join(splits)} was asked for")
    return "; ".join(causes) or "the files hold no row"
