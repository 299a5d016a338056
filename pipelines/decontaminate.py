"""Which questions must not be trained on: those of benchmarks, and those that stand twice.

Pictures are compared by how they look, questions by their words; ``decontaminate_match`` says how.
Ray Data maps the questions' shards; the driver keeps ids, keys and what was found. Writes a report
and a drop list, changes nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cluster.connect import prepare_environment
from cluster.storage import Commit, RunFolder, read_json, write_json_atomic, write_text_atomic
from cluster.stores import atomic_file, local_path
from pipelines.decontaminate_files import BenchmarkRow, read_benchmark
from pipelines.decontaminate_match import BenchmarkIndex, BenchmarkItem, MatchConfig, MatchKind
from pipelines.decontaminate_ray import map_shards
from pipelines.decontaminate_report import DROP_SCHEMA, Report, render_report, render_row
from pipelines.decontaminate_work import FOUND_SCHEMA, FindMatches, LookAtPictures, look_from_row
from pipelines.schemas import QUESTION_SCHEMA, open_parquet, question_to_row, write_shards
from pipelines.sources.base import SourceSpec
from pipelines.sources.catalogue import detect
from pipelines.sources.own_questions import SOURCE as OWN_QUESTIONS
from pipelines.sources.parquet import QuestionShard, plan_questions
from pipelines.sources.prepare import prepare_questions
from reasoning.errors import InputError
from reasoning.records import ImageRef, Question

RUN_KIND = "decontaminate"
DROP_FILE, MATCHES_FILE, REPORT_FILE, PAGE_FILE = "drop.parquet", "matches.parquet", "report.json", "report.md"
QUESTIONS = "questions"
_WORK = ".work"
_PICTURE_ROWS = 128
"""Pictures of a benchmark in one shard."""
_QUESTION_ROWS = 2000
"""Questions in one shard; a row group is read as a whole, so smaller shards would read it again and again."""
_KEY = "report"

Progress = Callable[[int, int, str], None]
Work = Callable[[QuestionShard], pa.Table]
MapShards = Callable[[Work, Sequence[QuestionShard], str | None], Iterator[pa.Table]]


class DecontaminateConfig(BaseModel):
    """One comparison of questions with benchmarks and with themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    questions: str | None = None
    """Questions as Parquet (a file, a folder, a URI), or a data set in a layout that `stagebeam sources` lists."""
    sources: tuple[SourceSpec, ...] = ()
    """Several data sets instead of ``questions``, as for `stagebeam annotate`."""
    seed: int = 0
    """Which rows a source that is not taken whole gives; the same as that of the annotation."""
    against: tuple[Path, ...] = ()
    """Benchmarks: VLMEvalKit TSV, Parquet or JSON lines with picture and question columns, question Parquet."""
    output: Path
    """The folder of report.md, report.json, matches.parquet and drop.parquet."""
    match: MatchConfig = MatchConfig()
    """When pictures and questions count as the same."""
    drop: tuple[MatchKind, ...] = (MatchKind.IMAGE_AND_QUESTION, MatchKind.IMAGE, MatchKind.DUPLICATE)
    """Which kinds of matches are on the drop list; all are in the report."""
    ray_address: str | None = None
    """The Ray cluster to run on; none starts one on this machine for the run."""

    @field_validator("questions", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @model_validator(mode="after")
    def _has_questions(self) -> DecontaminateConfig:
        if (self.questions is None) == (not self.sources):
            raise ValueError("give either `questions` or `sources`: what is to be looked through")
        names = [path.name for path in self.against]
        if len(set(names)) < len(names):
            raise ValueError("against: two benchmarks have one file name, by which the report calls them; rename one")
        return self

    def identity(self) -> dict[str, Any]:
        """What the report depends on, files by name and size."""
        return {
            "questions": self.questions,
            "sources": [spec.model_dump(mode="json") for spec in self.sources],
            "seed": self.seed if self.sources else 0,
            "against": {path.name: _size(path) for path in self.against},
            "match": self.match.model_dump(mode="json"),
            "drop": sorted(kind.value for kind in self.drop),
        }


class DecontaminationSummary(BaseModel):
    """What was found."""

    model_config = ConfigDict(frozen=True)

    questions: int
    dropped: int
    found: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Questions by benchmark and kind."""
    duplicates: int
    unusable: int
    """Questions whose picture could not be compared."""
    drop_file: Path
    report_file: Path
    seconds: float

    def lines(self) -> list[str]:
        """The counts in words."""
        made = []
        for name, kinds in self.found.items():
            counts = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in kinds.items()) or "nothing"
            made.append(f"{name}: {counts}")
        made.append(f"duplicates among the questions: {self.duplicates:,}")
        if self.unusable:
            made.append(f"pictures that could not be compared: {self.unusable:,} (report.md)")
        return made


def run_decontamination(
    config: DecontaminateConfig, on_progress: Progress | None = None, *, mapped: MapShards = map_shards
) -> DecontaminationSummary:
    """Compare, write the report and the drop list; a finished folder is answered as it is.

    ``mapped`` runs the work on shards; tests give one without Ray. Raises InputError for files that
    cannot be used, OutputMismatchError when the folder is another comparison's.
    """
    prepare_environment()
    started = time.monotonic()
    report_progress = on_progress or (lambda done, total, detail: None)
    _check_there(config)
    with RunFolder(config.output, kind=RUN_KIND, identity=config.identity()) as run:
        if not run.commits():
            job = _Comparison(config, report_progress, mapped)
            report = job.run()
            run.commit(
                Commit(key=_KEY, files=(DROP_FILE, MATCHES_FILE, REPORT_FILE, PAGE_FILE), counts=report.counts())
            )
        return _summary(config, time.monotonic() - started)


def read_drop_list(path: Path | str) -> frozenset[str]:
    """The ids in a ``drop.parquet``, or in the one of a comparison's folder.

    Raises InputError when there is none, or none that is finished.
    """
    file = Path(path)
    if file.is_dir():
        file = file / DROP_FILE
    if not file.is_file():
        raise InputError(f"{file}: does not exist; `stagebeam decontaminate` writes it once it is through")
    parquet = open_parquet(file)
    if "id" not in parquet.schema_arrow.names:
        raise InputError(f"{file}: has no column 'id'; a drop list names the questions to leave out by it")
    return frozenset(parquet.read(columns=["id"]).column("id").to_pylist())


class _Comparison:
    """One run of the work."""

    def __init__(self, config: DecontaminateConfig, on_progress: Progress, mapped: MapShards) -> None:
        self._config = config
        self._report = on_progress
        self._mapped = mapped
        self._work = config.output / _WORK

    def run(self) -> Report:
        if self._work.exists():
            shutil.rmtree(self._work)
        report = Report(settings=self._config.identity())
        items = [item for path in self._config.against for item in self._benchmark(path, report)]
        index = BenchmarkIndex(items, self._config.match)
        tables = list(self._found(index))
        table = pa.concat_tables(tables) if tables else FOUND_SCHEMA.empty_table()
        rows = _match_rows(table) + _duplicates(table)
        rows.sort(key=lambda row: (row["benchmark"], row["kind"], row["id"]))
        report.take(table, rows, frozenset(kind.value for kind in self._config.drop))
        self._write(report, rows)
        if self._work.exists():
            shutil.rmtree(self._work)
        return report

    def _benchmark(self, path: Path, report: Report) -> list[BenchmarkItem]:
        """A benchmark's questions with the looks of their pictures, a shared picture's too."""
        folder = self._work / f"benchmark-{len(report.benchmarks)}"
        kept: list[BenchmarkRow] = []
        write_shards(folder, _picture_rows(read_benchmark(path), kept), QUESTION_SCHEMA, rows_per_file=_PICTURE_ROWS)
        looks: dict[str, list[Any]] = {}
        faults: list[str] = [row.fault for row in kept if row.fault]
        if any(folder.glob("*.parquet")):
            plan = plan_questions(folder, shard_rows=_PICTURE_ROWS)
            work = LookAtPictures(root=plan.root, hash_bits=self._config.match.hash_bits)
            done = 0
            for table in self._mapped(work, plan.shards, self._config.ray_address):
                for row in table.to_pylist():
                    look = look_from_row(row)
                    if look is None:
                        faults.append(row["fault"])
                    else:
                        looks.setdefault(row["id"].partition("/")[0], []).append(look)
                done += table.num_rows
                self._report(done, plan.rows, path.name)
        places = {row.row: number for number, row in enumerate(kept)}
        owners = [places.get(row.shared_with, number) if row.shared_with else number for number, row in enumerate(kept)]
        items = [
            BenchmarkItem(benchmark=path.name, row=row.row, text=row.text, looks=tuple(looks.get(str(owner), ())))
            for row, owner in zip(kept, owners, strict=True)
        ]
        report.add_benchmark(path.name, items, faults)
        return items

    def _found(self, index: BenchmarkIndex) -> Iterator[pa.Table]:
        plan = plan_questions(self._questions(), shard_rows=_QUESTION_ROWS)
        work = FindMatches(root=plan.root, hash_bits=self._config.match.hash_bits, index=index)
        done = 0
        for table in self._mapped(work, plan.shards, self._config.ray_address):
            done += table.num_rows
            self._report(done, plan.rows, "questions")
            yield table

    def _questions(self) -> str:
        """Where the question Parquet is; a data set in a layout of its own is written as such first."""
        specs = self._config.sources
        if not specs:
            where = str(self._config.questions)
            local = local_path(where)
            if local is None or (local.exists() and OWN_QUESTIONS.detects(local)):
                return where
            detect(local)
            specs = (SourceSpec(path=local),)
        prepare_questions(specs, self._config.output / QUESTIONS, seed=self._config.seed)
        return str(self._config.output / QUESTIONS)

    def _write(self, report: Report, rows: Sequence[Mapping[str, Any]]) -> None:
        kinds = {kind.value for kind in self._config.drop}
        plain = [render_row(row) for row in rows]
        for name, chosen in (
            (MATCHES_FILE, plain),
            (DROP_FILE, [row for row in plain if row["kind"] in kinds]),
        ):
            with atomic_file(self._config.output / name) as file:
                pq.write_table(pa.Table.from_pylist(chosen, schema=DROP_SCHEMA), file, compression="zstd")
        write_json_atomic(self._config.output / REPORT_FILE, report.as_json())
        write_text_atomic(self._config.output / PAGE_FILE, render_report(report))


def _check_there(config: DecontaminateConfig) -> None:
    """Files that are not there must not leave a folder behind."""
    local = None if config.questions is None else local_path(config.questions)
    for path in (*config.against, *([] if local is None else [local])):
        if not path.exists():
            raise InputError(f"{path}: does not exist; give questions and, with `against`, benchmark files")


def _picture_rows(rows: Iterator[BenchmarkRow], kept: list[BenchmarkRow]) -> Iterator[dict[str, Any]]:
    """A question row for each picture, named by its benchmark row's number; ``kept`` gets the rows without them."""
    for number, row in enumerate(rows):
        kept.append(BenchmarkRow(row=row.row, text=row.text, shared_with=row.shared_with, fault=row.fault))
        for place, image in enumerate(row.images):
            yield question_to_row(Question(id=f"{number}/{place}", question=row.text or "-", image=_kept(image)))


def _kept(image: ImageRef) -> ImageRef:
    path = local_path(image.uri) if image.uri else None
    # Workers have another working directory.
    return image if path is None else ImageRef(uri=str(path.resolve()), media_type=image.media_type)


def _match_rows(table: pa.Table) -> list[dict[str, Any]]:
    """A row for each question and benchmark that met."""
    has_any = pc.greater(pc.list_value_length(table.column("matches")), 0)
    found = table.filter(has_any).select(["id", "text", "matches"]).to_pylist()
    return [{"id": row["id"], "question": row["text"], **match} for row in found for match in row["matches"]]


def _duplicates(table: pa.Table) -> list[dict[str, Any]]:
    """Questions that are another one over again; of equal ones that stays whose conversation and id come first.

    So of two equal conversations one stays whole.
    """
    ordered = table.select(["key", "conversation", "id"]).sort_by(
        [("key", "ascending"), ("conversation", "ascending"), ("id", "ascending")]
    )
    keys = ordered.column("key").combine_chunks()
    if len(keys) < 2:
        return []
    is_same = pc.equal(keys.slice(1), keys.slice(0, len(keys) - 1)).to_pylist()
    ids = ordered.column("id")
    rows: list[dict[str, Any]] = []
    first = 0
    for place, same in enumerate(is_same, start=1):
        if not same:
            first = place
            continue
        kept = ids[first].as_py()
        rows.append(
            {
                "id": ids[place].as_py(),
                "kind": MatchKind.DUPLICATE.value,
                "benchmark": "",
                "row": kept,
                "distance": 0,
                "overlap": 1.0,
                "question": None,
                "text": None,
            }
        )
    return rows


def _summary(config: DecontaminateConfig, seconds: float) -> DecontaminationSummary:
    found = read_json(config.output / REPORT_FILE)
    return DecontaminationSummary(
        questions=found["questions"],
        dropped=found["dropped"],
        found={benchmark["name"]: benchmark["found"] for benchmark in found["benchmarks"]},
        duplicates=found["duplicates"],
        unusable=sum(found["unusable"].values()),
        drop_file=config.output / DROP_FILE,
        report_file=config.output / PAGE_FILE,
        seconds=seconds,
    )


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
