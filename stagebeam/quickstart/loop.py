"""The quickstart's loop: do the steps that are not done, show them, end with the table."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from cluster.connect import start_local
from cluster.storage import RunFolder, read_run
from reasoning.errors import InputError, OutputMismatchError
from stagebeam.console import duration, progress
from stagebeam.quickstart.config import QuickstartConfig
from stagebeam.quickstart.ending import show_end
from stagebeam.quickstart.run import QuickstartRun, Step, StepRecord, timed

RUN_KIND = "quickstart"

STEPS = (
    Step(name="annotate", title="Annotate", module="stagebeam.quickstart.annotating"),
    Step(name="fine-tune", title="Fine-tune", module="stagebeam.quickstart.fine_tuning"),
    Step(name="serve", title="Serve", module="stagebeam.quickstart.serving"),
    Step(name="search", title="Search", module="stagebeam.quickstart.searching"),
    Step(name="evaluate", title="Evaluate", module="stagebeam.quickstart.evaluating", needs_ray=False),
)


def run_quickstart(config: QuickstartConfig, console: Console, *, fresh: bool = False) -> None:
    """Run or resume the whole loop; one local Ray serves every step that needs one.

    Raises OutputMismatchError when the folder is another run's, and what the steps raise.
    """
    run = QuickstartRun(config=config)
    if fresh:
        remove_run(run.folder)
    with RunFolder(run.folder, kind=RUN_KIND, identity=_identity(config)), ExitStack() as stack:
        console.print(f"Run folder: {config.output}", markup=False)
        has_ray = False
        records: dict[str, StepRecord] = {}
        for number, step in enumerate(STEPS, start=1):
            title = f"{number}/{len(STEPS)} {step.title}"
            record = run.record(step.name)
            if record is not None:
                _show(console, f"{title}  done before", record)
            else:
                with progress(console, title) as update:
                    if step.needs_ray and not has_ray:
                        update(0, 0, "starting Ray")
                        stack.enter_context(start_local(config.logical_cpus))
                        has_ray = True
                    record = timed(step, run, update)
                _show(console, f"{title}  {duration(record.seconds)}", record)
            records[step.name] = record
        show_end(run, records, console)


def remove_run(folder: Path) -> None:
    """Delete the folder of an earlier quickstart and nothing else; raises OutputMismatchError for another."""
    if not folder.exists():
        return
    try:
        found = read_run(folder, kind=RUN_KIND)
    except InputError as error:
        raise OutputMismatchError(f"--fresh deletes nothing but quickstart runs: {error}") from error
    # Taken first, so that nobody is writing into it.
    with RunFolder(folder, kind=RUN_KIND, identity=found["identity"]):
        shutil.rmtree(folder)


def _identity(config: QuickstartConfig) -> dict[str, object]:
    """What the results depend on: not the place, nor how many processes work at it."""
    fields: dict[str, object] = json.loads(config.model_dump_json(exclude={"output", "scoring_actors", "logical_cpus"}))
    return fields


def _show(console: Console, title: str, record: StepRecord) -> None:
    console.print(f"✓ {title}", style="bold green", markup=False)
    for line in record.lines:
        console.print(f"    {line}", markup=False)
