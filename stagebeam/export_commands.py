"""The commands ``export`` and ``decontaminate``: options, help and exit codes.

The work lies in ``stagebeam.exporting``, which is imported when a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stagebeam.failures import reported
from stagebeam.options import AGAIN, ConfigFile, Debug, Overrides, RayAddress


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command(
        short_help="Write accepted answers for a trainer.",
        epilog="Example: stagebeam export runs/annotations --format trl --output exports/trl",
    )(export)
    app.command(
        short_help="Find benchmark questions and doubles.",
        epilog="Example: stagebeam decontaminate questions --against MMStar.tsv --output runs/clean",
    )(decontaminate)


def export(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="The annotation run: its folder or URI.", show_default=False)
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="llava, llamafactory, trl, openai or parquet (our own)."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="FOLDER", help="Where to write.")] = None,
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="MODE", help="files or embedded; else what is usual for the format."),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Write the accepted answers of an annotation run in the form that a trainer reads, with a dataset card.

    Turns of one conversation are joined again; pictures are files, each once, or inside the records.
    docs/export.md says what each trainer needs.
    """
    with reported(debug=debug, on_interrupt=f"{AGAIN}: the export begins anew."):
        from stagebeam.exporting import run_export

        run_export(config, overrides or [], run=run, form=form, output=output, images=images)


def decontaminate(
    questions: Annotated[
        str | None,
        typer.Argument(
            metavar="QUESTIONS", help="Question Parquet, or a data set `stagebeam sources` lists.", show_default=False
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="FILE", help="A benchmark: TSV, Parquet, JSON lines; repeat."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="FOLDER", help="Where to write.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    ray: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Find questions whose picture or words stand in a benchmark, and questions that stand twice.

    Writes a report and drop.parquet, which `stagebeam annotate` takes with `drop: FILE`.
    """
    with reported(debug=debug, on_interrupt=f"{AGAIN}: it begins anew."):
        from stagebeam.exporting import run_decontaminate

        run_decontaminate(config, overrides or [], questions=questions, against=against or [], output=output, ray=ray)
