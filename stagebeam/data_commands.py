"""The commands ``stagebeam sources …``: options and help. The work lies in ``stagebeam.preparing``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stagebeam.failures import reported
from stagebeam.options import AGAIN, ConfigFile, Debug, Overrides

sources_app = typer.Typer(
    help="List the data sets that questions can be read from, check a folder, write question shards.",
    short_help="Data sets: list, check, turn into questions.",
    epilog="Example: stagebeam sources check data/ChartQA",
    invoke_without_command=True,
    rich_markup_mode=None,
)

As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Which source it is; else told by the files.")]
Split = Annotated[str | None, typer.Option("--split", metavar="SPLIT", help="Only this split.")]
ImageRoot = Annotated[
    Path | None, typer.Option("--image-root", metavar="FOLDER", help="Where the pictures are, if elsewhere.")
]


@sources_app.callback()
def sources(context: typer.Context, debug: Debug = False) -> None:
    """List the data sets that questions can be read from: licence, files, counts, where to get them."""
    if context.invoked_subcommand is None:
        with reported(debug=debug, on_interrupt="Nothing was written."):
            from stagebeam.preparing import run_list_sources

            run_list_sources()


@sources_app.command(
    short_help="What a data set's folder holds.",
    epilog="Example: stagebeam sources check data/aokvqa --image-root data/coco --split train",
)
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The data set's folder, or its one file.")],
    name: As = None,
    split: Split = None,
    image_root: ImageRoot = None,
    debug: Debug = False,
) -> None:
    """Say what a data set's folder holds and what is missing, and show three of its questions. Writes nothing."""
    with reported(debug=debug, on_interrupt="Nothing was written."):
        from stagebeam.preparing import run_check_source

        run_check_source(path, name=name, split=split, image_root=image_root)


@sources_app.command(
    short_help="Write question shards.",
    epilog="Example: stagebeam sources prepare data/ChartQA --split train --take 1000 --output runs/questions/chartqa",
)
def prepare(
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="A data set's folder or file; or give --config.")
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FOLDER", help="Where the shards go: a folder, or a URI.")
    ] = None,
    name: As = None,
    split: Split = None,
    take: Annotated[int | None, typer.Option("--take", metavar="N", help="So many entries, drawn by --seed.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Draws the entries.")] = None,
    image_root: ImageRoot = None,
    debug: Debug = False,
) -> None:
    """Write the questions of one data set, or of a mix of several, as shards for `stagebeam annotate`.

    A mix is a YAML file with `sources`, `seed` and `output`, such as configs/mix-llava-cot-100k.yaml.
    """
    with reported(debug=debug, on_interrupt=f"{AGAIN}: it begins anew."):
        from stagebeam.preparing import mix_config, run_prepare

        given = {"name": name, "split": split, "take": take, "image_root": image_root}
        run_prepare(mix_config(config, overrides or [], path=path, source=given, output=output, seed=seed))
