"""What the quickstart ends with: the table, the report's path, the commands to try next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from pipelines import compare
from pipelines.findings import findings
from pipelines.report import AnnotationCounts, annotation_table
from stagebeam.console import print_table
from stagebeam.model_search import DEFAULT_MODEL
from stagebeam.quickstart.evaluating import NOTICE, load_evaluation, load_judge
from stagebeam.quickstart.run import QuickstartRun, StepRecord

RESULT_DETAILS = ("judge", "p", "steps", "vs greedy", "format")


def show_end(run: QuickstartRun, records: Mapping[str, StepRecord], console: Console) -> None:
    """Draws everything from the records and the files of a finished run."""
    evaluation = load_evaluation(run)
    judge = load_judge(records["evaluate"])
    counts = AnnotationCounts(**records["annotate"].facts["counts"])
    console.print()
    print_table(console, "Annotations by the stand-in teacher", annotation_table(counts))
    print_table(console, "The judge on held-out pairs", compare.judge_table((judge,)), droppable=compare.JUDGE_DETAILS)
    title = f"{run.config.test_questions:,} held-out questions"
    print_table(console, title, compare.console_table(evaluation), droppable=RESULT_DETAILS)
    for sentence in findings(evaluation, (judge,)):
        console.print(f"· {sentence}", markup=False)
    seconds = sum(record.seconds for record in records.values())
    console.print(f"\n{NOTICE}", style="dim", markup=False)
    console.print(f"\nReport: {_short(run.report)}   (the five steps took {seconds / 60:.1f} min)", markup=False)
    console.print("\nNext:")
    for command in next_commands(run, records):
        console.print(f"  {command}", markup=False)


def next_commands(run: QuickstartRun, records: Mapping[str, StepRecord]) -> tuple[str, ...]:
    """Commands that work as they stand in the folder the quickstart was started in."""
    program = _program()
    question = shlex.quote(records["serve"].facts["example_question"])
    model = run.model("four-stage")
    image, tree, folder = (shlex.quote(_short(path)) for path in (run.example_image, run.folder / "tree.html", model))
    chosen = "" if model == DEFAULT_MODEL.absolute() else f" --model {folder}"
    return (
        f"{program} ask {image} {question}{chosen} --stages --trace {tree}",
        f"{program} serve --set model={folder}",
        f"{program} --help",
    )


def _program() -> str:
    if shutil.which("stagebeam") is not None:
        return "stagebeam"
    return _short(Path(sys.argv[0]).absolute())


def _short(path: Path) -> str:
    """Relative to the current folder when it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
