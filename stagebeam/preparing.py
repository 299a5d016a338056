"""What ``stagebeam sources``, ``sources check`` and ``sources prepare`` do and print.

Imported when one of the commands runs; each function imports its own part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagebeam.console import duration, output_console, print_table, progress
from stagebeam.settings import load_config

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.sources.base import SourceInfo
    from pipelines.sources.check import SourceCheck
    from pipelines.sources.mix import MixConfig
    from pipelines.sources.prepare import PrepareProgress, SourceCounts
    from reasoning.records import Question

_SHOWN = 300


def run_list_sources() -> None:
    """Print all sources: a table, then files and where to get them."""
    from pipelines.compare import Table
    from pipelines.sources.catalogue import SOURCES

    console = output_console()
    rows = []
    for source in SOURCES:
        info = source.info
        paper = f"{info.paper_thousands:.1f}k" if info.paper_thousands is not None else "–"
        rows.append((info.name, info.title, paper, _counts(info), info.licence))
    columns = ("name", "data set", "paper", "official counts", "licence")
    table = Table(columns=columns, rows=tuple(rows), numeric=(False, False, True, False, False))
    print_table(console, "Sources of questions", table, droppable=("licence", "official counts"))
    for source in SOURCES:
        _print_info(console, source.info)
    console.print("\npaper: thousands of entries in LLaVA-CoT-100k (Table 1). Formats and rules: docs/sources.md")


def run_check_source(path: Path, *, name: str | None, split: str | None, image_root: Path | None) -> None:
    """Print what ``pipelines.sources.check`` finds."""
    from pipelines.sources.base import SourceSpec
    from pipelines.sources.check import check_source
    from stagebeam.settings import build_config

    values = {"path": path, "name": name, "split": split, "image_root": image_root}
    spec = build_config(SourceSpec, values, source="the command line")
    console = output_console()
    with progress(console, "Check") as update:
        check = check_source(spec, on_progress=lambda read: update(read, 0, "rows read"))
    info = check.info
    console.print(f"{check.home} is {info.title} ({info.name})", markup=False)
    for file in check.files:
        state = f"{file.count:,}" if file.count else ("missing" if file.is_required else "none (optional)")
        console.print(f"  {file.pattern} – {file.what}: {state}", markup=False)
    _print_counts(console, check)
    for number, question in enumerate(check.samples, start=1):
        _print_question(console, number, question)


def mix_config(
    file: Path | None,
    overrides: Sequence[str],
    *,
    path: Path | None,
    source: Mapping[str, Any],
    output: str | None,
    seed: int | None,
) -> MixConfig:
    """The mix of a settings file, or the one source of a path. Raises ConfigError when both or neither are given."""
    from pipelines.sources.mix import MixConfig
    from reasoning.errors import ConfigError

    one = {key: value for key, value in source.items() if value is not None}
    if (path is None) == (file is None):
        raise ConfigError("give either PATH, a data set's folder or file, or --config with a mix of several")
    if path is None and one:
        raise ConfigError(f"--{next(iter(one)).replace('_', '-')} goes with PATH; in a mix it stands in its `sources`")
    given: dict[str, Any] = {"output": output, "seed": seed}
    if path is not None:
        given["sources"] = [{"path": path, **one}]
    settings = [f"{key}={json.dumps(value, default=str)}" for key, value in given.items() if value is not None]
    return load_config(MixConfig, file, [*overrides, *settings])


def run_prepare(config: MixConfig) -> None:
    """See ``pipelines.sources.prepare``; prints counts by source."""
    import time

    from pipelines.sources.prepare import prepare_questions

    console = output_console()
    started = time.monotonic()
    with progress(console, "Prepare") as update:

        def on_progress(news: PrepareProgress) -> None:
            doing = "drawing from" if news.is_sampling else "writing"
            update(news.written, 0, f"written · {doing} {news.source}, row {news.read:,}")

        prepared = prepare_questions(
            config.specs(),
            config.output,
            seed=config.seed,
            rows_per_file=config.rows_per_file,
            on_progress=on_progress,
        )
    took = "done before" if prepared.was_done else f"in {duration(time.monotonic() - started)}"
    console.print(
        f"{prepared.rows:,} questions in {len(prepared.files):,} shards, {took} → {prepared.output}", markup=False
    )
    for counts in prepared.sources:
        for line in _source_lines(counts):
            console.print(line, markup=False)


def _source_lines(counts: SourceCounts) -> list[str]:
    asked = f" of {counts.asked_for:,} asked for" if counts.asked_for is not None else ""
    lines = [f"  {counts.name}: {counts.questions:,} questions, {counts.entries:,} entries{asked}"]
    if counts.asked_for is not None and counts.entries < counts.asked_for:
        lines.append("    fewer than asked for: that is all there are")
    faults = sum(counts.faults.values())
    if faults:
        kept = "not drawn" if counts.asked_for is not None else "kept, annotation will reject them"
        lines.append(f"    {faults:,} rows are no usable questions ({kept}):")
        lines += [f"      {count:,} × {what}" for what, count in list(counts.faults.items())[:3]]
    if counts.doubles:
        lines.append(f"    {counts.doubles:,} exact doubles dropped")
    lines += [f"    {count:,} left out: {cause}" for cause, count in counts.skipped.items()]
    return lines


def _print_info(console: Console, info: SourceInfo) -> None:
    needed = ", ".join(file.pattern for file in info.files if file.is_required)
    optional = ", ".join(file.pattern for file in info.files if not file.is_required)
    console.print(f"\n{info.name} – {info.title}: {info.task}", markup=False, style="bold")
    console.print(f"  files: {needed}" + (f" (optional: {optional})" if optional else ""), markup=False)
    console.print(f"  from: {info.where}", markup=False)
    console.print(f"  licence: {info.licence} · official counts: {_counts(info)}", markup=False)
    if info.notes:
        console.print(f"  note: {info.notes}", markup=False)


def _print_counts(console: Console, check: SourceCheck) -> None:
    for split, (found, expected) in check.counted().items():
        beside = f" of {expected:,} in the official release" if expected is not None else ""
        console.print(f"{split or 'no split'}: {found:,} {check.info.counted}{beside}", markup=False)
    if not check.questions:
        console.print("no usable question")
    notes = [
        (check.without_image, "questions without an image"),
        (check.missing_images, "questions whose picture is not there, such as " + ", ".join(check.missing_examples)),
        (check.doubles, "exact doubles"),
        (check.faults, "rows that are no usable questions, such as " + "; ".join(check.fault_examples)),
        *((count, f"rows left out: {cause}") for cause, count in check.skipped.items()),
    ]
    for count, what in notes:
        if count:
            console.print(f"  {count:,} {what}", markup=False)
    if check.missing_files:
        missing = ", ".join(file.pattern for file in check.missing_files)
        console.print(f"  missing: {missing}. Get it from {check.info.where}", markup=False)


def _print_question(console: Console, number: int, question: Question) -> None:
    image = "none"
    if question.image is not None:
        size = len(question.image.data or b"")
        image = question.image.uri or f"{size:,} bytes, {question.image.media_type}"
    console.print(f"\n{number}. {_excerpt(question.question)}", markup=False)
    for index, choice in enumerate(question.choices):
        console.print(f"   {chr(ord('A') + index)}. {_excerpt(choice)}", markup=False)
    console.print(f"   answer ({question.answer_type}): {_excerpt(question.answer or 'not known')}", markup=False)
    console.print(f"   image: {image}", markup=False)


def _counts(info: SourceInfo) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in info.counts.items()) or "not stated"


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
