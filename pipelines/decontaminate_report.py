"""What a comparison found, as figures and as a page. Pure: nothing is read or compared here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.decontaminate_match import BenchmarkItem, MatchKind

DROP_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("benchmark", pa.string()),
        ("benchmark_row", pa.string()),
        ("distance", pa.int32()),
        ("overlap", pa.float32()),
    ]
)
"""Of ``drop.parquet`` and ``matches.parquet``; a question stands once for each benchmark and once as a duplicate."""
_EXAMPLES = 3
_SHOWN = 160


@dataclass
class BenchmarkReport:
    """One benchmark."""

    name: str
    rows: int
    pictures: int
    """Pictures that could be compared."""
    faults: Counter[str]
    found: dict[str, int] = field(default_factory=dict)
    """Questions of ours by kind."""
    rows_hit: int = 0
    """Rows of the benchmark that a picture of ours was found for."""
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass
class Report:
    """All that is written into report.json."""

    settings: Mapping[str, Any]
    benchmarks: list[BenchmarkReport] = field(default_factory=list)
    questions: int = 0
    duplicates: int = 0
    dropped: int = 0
    """Questions on the drop list, each counted once."""
    unusable: Counter[str] = field(default_factory=Counter)
    """Questions whose picture could not be compared, by why."""
    drop: tuple[str, ...] = ()

    def add_benchmark(self, name: str, items: Sequence[BenchmarkItem], faults: Sequence[str]) -> None:
        """A benchmark that was read."""
        self.benchmarks.append(
            BenchmarkReport(
                name=name,
                rows=len(items),
                pictures=sum(len(item.looks) for item in items),
                faults=Counter(faults),
            )
        )

    def take(self, table: pa.Table, rows: Sequence[Mapping[str, Any]], drop: frozenset[str]) -> None:
        """Count what was found: ``table`` has a row for each question, ``rows`` one for each match."""
        self.questions = table.num_rows
        self.unusable = Counter(fault for fault in table.column("fault").to_pylist() if fault)
        self.duplicates = sum(row["kind"] == MatchKind.DUPLICATE for row in rows)
        self.dropped = len({row["id"] for row in rows if row["kind"] in drop})
        self.drop = tuple(sorted(drop))
        by_name = {benchmark.name: benchmark for benchmark in self.benchmarks}
        hit: dict[str, set[str]] = {}
        for row in rows:
            benchmark = by_name.get(row["benchmark"])
            if benchmark is None:
                continue
            kind = row["kind"]
            benchmark.found[kind] = benchmark.found.get(kind, 0) + 1
            if kind != MatchKind.QUESTION:
                hit.setdefault(benchmark.name, set()).add(row["row"])
            shown = benchmark.examples.setdefault(kind, [])
            if len(shown) < _EXAMPLES:
                shown.append(_example(row))
        for benchmark in self.benchmarks:
            benchmark.rows_hit = len(hit.get(benchmark.name, ()))

    def counts(self) -> dict[str, int]:
        """For the marker of the finished run."""
        return {"questions": self.questions, "duplicates": self.duplicates, "dropped": self.dropped}

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "questions": self.questions,
            "dropped": self.dropped,
            "duplicates": self.duplicates,
            "drop": list(self.drop),
            "unusable": dict(self.unusable.most_common()),
            "settings": dict(self.settings),
            "benchmarks": [
                {
                    "name": one.name,
                    "rows": one.rows,
                    "pictures": one.pictures,
                    "faults": dict(one.faults.most_common()),
                    "found": one.found,
                    "rows_hit": one.rows_hit,
                    "examples": one.examples,
                }
                for one in self.benchmarks
            ],
        }


def render_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of ``DROP_SCHEMA``."""
    names = {"id": "id", "kind": "kind", "benchmark": "benchmark", "benchmark_row": "row", "distance": "distance",
             "overlap": "overlap"}  # fmt: skip
    return {name: row[source] for name, source in names.items()}


def render_report(report: Report) -> str:
    """The page, in Markdown."""
    kinds = [kind.value for kind in (MatchKind.IMAGE_AND_QUESTION, MatchKind.IMAGE, MatchKind.QUESTION)]
    lines = [
        "# Decontamination",
        "",
        f"{report.questions:,} questions; {report.dropped:,} on the drop list "
        f"({', '.join(report.drop) or 'no kind is dropped'}); {report.duplicates:,} duplicates among themselves.",
        "",
        "| benchmark | rows | pictures | " + " | ".join(kind.replace("_", " ") for kind in kinds) + " | rows hit |",
        "|---|" + "---:|" * (len(kinds) + 3),
    ]
    for one in report.benchmarks:
        found = " | ".join(f"{one.found.get(kind, 0):,}" for kind in kinds)
        lines.append(f"| {_cell(one.name)} | {one.rows:,} | {one.pictures:,} | {found} | {one.rows_hit:,} |")
    lines += [
        "",
        "Counted are our questions, each once for each benchmark under its closest kind; `rows hit` are the "
        "benchmark's rows whose picture is among ours, as far as they are the closest match of a question. "
        "`question` is the same long question with another picture: often a template.",
        "",
    ]
    for one in report.benchmarks:
        lines += _examples(one)
    for title, faults in [
        ("Questions whose picture could not be compared", report.unusable),
        *((f"Pictures of {one.name} that could not be compared", one.faults) for one in report.benchmarks),
    ]:
        if faults:
            lines += [f"## {title}", "", *(f"- {count:,} × {_cell(fault)}" for fault, count in faults.most_common(10))]
            if len(faults) > 10:
                lines.append(f"- and {len(faults) - 10:,} other causes (report.json)")
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _examples(one: BenchmarkReport) -> list[str]:
    lines: list[str] = []
    for kind, shown in one.examples.items():
        lines += [f"## {_cell(one.name)}: {kind.replace('_', ' ')}", ""]
        lines += ["| question | benchmark row | bits | overlap | ours | theirs |", "|---|---|---:|---:|---|---|"]
        for row in shown:
            bits = "-" if row["distance"] is None else str(row["distance"])
            lines.append(
                f"| {_cell(row['id'])} | {_cell(row['row'])} | {bits} | {row['overlap']:.2f} "
                f"| {_cell(row['ours'])} | {_cell(row['theirs'])} |"
            )
        lines.append("")
    return lines


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "row": row["row"],
        "distance": row["distance"],
        "overlap": round(float(row["overlap"]), 3),
        "ours": str(row["question"] or "")[:_SHOWN],
        "theirs": str(row["text"] or "")[:_SHOWN],
    }


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
