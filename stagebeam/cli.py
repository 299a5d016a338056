"""The command ``stagebeam``: options, help and exit codes.

Every command's work lies in ``stagebeam.commands``, which is imported when a command runs: help
answers before pydantic, torch or Ray are loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.process import keep_what_is_loaded
from stagebeam import __version__, export_commands
from stagebeam.data_commands import sources_app
from stagebeam.failures import reported
from stagebeam.options import AGAIN, ConfigFile, Debug, Overrides, RayAddress

app = typer.Typer(
    name="stagebeam",
    help="Four-stage reasoning about images on Ray: annotate, fine-tune, serve, search, evaluate.",
    epilog="Start with `stagebeam quickstart`. Each command's --help ends with an example.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stagebeam {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(
    short_help="The whole loop on the embedded default.", epilog="Example: stagebeam quickstart --set output=runs/first"
)
def quickstart(
    config: ConfigFile = None,
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run folder first.")] = False,
    debug: Debug = False,
) -> None:
    """Run the whole loop on the embedded default: annotate, fine-tune, serve, search, evaluate.

    Needs no GPU, no account and no download of weights. An interrupted run goes on where it stopped.
    """
    with reported(debug=debug, on_interrupt=f"{AGAIN}: finished steps are kept."):
        from stagebeam.commands import run_quickstart

        run_quickstart(config, overrides or [], fresh=fresh)


@app.command(
    short_help="Have a teacher write four-stage answers.",
    epilog="Example: stagebeam annotate --config configs/annotate.yaml --stand-in --set limit=100",
)
def annotate(
    config: ConfigFile = None,
    overrides: Overrides = None,
    input_path: Annotated[
        str | None,
        typer.Option("--input", metavar="PATH", help="Question Parquet, or a data set `stagebeam sources` lists."),
    ] = None,
    output: Annotated[str | None, typer.Option("--output", metavar="PATH", help="The run's folder or URI.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show three full prompts and what the run would cost; ask nobody.")
    ] = False,
    replay: Annotated[
        list[str] | None,
        typer.Option("--replay", metavar="REASON", help="Do the rows rejected for this reason over; repeat."),
    ] = None,
    stand_in: Annotated[
        bool, typer.Option("--stand-in", help="Start the embedded stand-in teacher and ask that one.")
    ] = False,
    ray: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Have a teacher model write four-stage answers to questions, and verify them.

    Accepted and rejected rows are written as Parquet, the rejected with reason codes; then the
    training rows for `stagebeam train`. Finished calls are kept: an interrupted run goes on with
    the rest and pays for nothing twice.
    """
    with reported(debug=debug, on_interrupt=f"{AGAIN}: finished calls and shards are kept."):
        from stagebeam.annotating import run_annotate

        given = [f"{name}={value}" for name, value in (("input", input_path), ("output", output)) if value]
        run_annotate(
            config,
            [*(overrides or []), *given],
            with_standin=stand_in,
            dry_run=dry_run,
            replay=replay or [],
            ray=ray,
        )


@app.command(
    short_help="Fine-tune a model on training rows.",
    epilog="Example: stagebeam train --config configs/train.yaml --set max_steps=100",
)
def train(config: ConfigFile = None, overrides: Overrides = None, ray: RayAddress = None, debug: Debug = False) -> None:
    """Fine-tune all parameters of a model on training rows, with Ray Train and DeepSpeed."""
    with reported(debug=debug, on_interrupt=f"{AGAIN}: it goes on from the last checkpoint."):
        from stagebeam.commands import run_train

        run_train(config, overrides or [], ray=ray)


@app.command(
    short_help="Serve a model, OpenAI-compatible.",
    epilog="Example: stagebeam serve --config configs/serve.yaml --set port=8001",
)
def serve(config: ConfigFile = None, overrides: Overrides = None, ray: RayAddress = None, debug: Debug = False) -> None:
    """Serve a model with stage-level search behind an OpenAI-compatible address, until Ctrl-C."""
    with reported(debug=debug, on_interrupt=f"The service is down. {AGAIN} to start it."):
        from stagebeam.commands import run_serve

        run_serve(config, overrides or [], ray=ray)


@app.command(
    short_help="Ask a question about a picture.",
    epilog='Example: stagebeam ask scene.png "How many red objects are there?" --stages --trace tree.html',
)
def ask(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture: PNG, JPEG, WebP …")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask about it.")],
    choice: Annotated[
        list[str] | None, typer.Option("--choice", metavar="TEXT", help="An option of a multiple choice; repeat.")
    ] = None,
    stages: Annotated[bool, typer.Option("--stages", help="Print all four stages.")] = False,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE.html", help="Write the search tree as a page to click through."),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Ask a running server, such as http://127.0.0.1:8000/v1.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FOLDER", help="Load this model in this process instead.")
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Ask a question about a picture and print the conclusion.

    Without --url and --model, the model that the quickstart trained answers.
    """
    with reported(debug=debug, on_interrupt="Nothing was written."):
        from stagebeam.asking import run_ask

        run_ask(
            config, overrides or [], image, question, choice or [], stages=stages, trace=trace, url=url, model=model
        )


@app.command(
    short_help="Answer many questions offline.",
    epilog="Example: stagebeam score --config configs/score.yaml --set output=runs/scores",
)
def score(
    config: ConfigFile = None,
    overrides: Overrides = None,
    preferences: Annotated[
        Path | None,
        typer.Option(
            "--export-preferences", metavar="FOLDER", help="Then write winner/loser pairs and step labels there."
        ),
    ] = None,
    judgements: Annotated[
        Path | None,
        typer.Option(
            "--export-judgements", metavar="FOLDER", help="Then write rows to train a judge on these answers there."
        ),
    ] = None,
    ray: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Answer many questions offline, with one or several searches, as a Ray Data job.

    The model runs in the job's actors (engine transformers or vllm) or behind an OpenAI-compatible
    address (engine openai; docs/engines.md).
    """
    with reported(debug=debug, on_interrupt=f"{AGAIN}: finished shards are kept."):
        from stagebeam.commands import run_score

        run_score(config, overrides or [], preferences=preferences, judgements=judgements, ray=ray)


@app.command(
    short_help="Fit the cutoff of a retracing search.",
    epilog="Example: stagebeam calibrate --config configs/calibrate.yaml --set search.scorer=rating --set share=0.6",
)
def calibrate(
    config: ConfigFile = None, overrides: Overrides = None, ray: RayAddress = None, debug: Debug = False
) -> None:
    """Fit the cutoff of a retracing search (SWIRES) on your own model, scorer and held-out questions.

    Writes calibration.json; `stagebeam score`, `serve` and `ask` take it with `calibration: FILE` and
    warn when scores drift from it.
    """
    with reported(debug=debug, on_interrupt=f"{AGAIN}: finished shards are kept."):
        from stagebeam.commands import run_calibrate

        run_calibrate(config, overrides or [], ray=ray)


@app.command(
    short_help="Measure scored answers, write a report.",
    epilog="Example: stagebeam evaluate --config configs/evaluate.yaml",
)
def evaluate(config: ConfigFile = None, overrides: Overrides = None, debug: Debug = False) -> None:
    """Measure scored answers: accuracy with intervals, faults, compute; writes a report page."""
    with reported(debug=debug, on_interrupt=f"{AGAIN}."):
        from stagebeam.commands import run_evaluate

        run_evaluate(config, overrides or [])


@app.command(
    "judge-check",
    short_help="Measure a model as a judge.",
    epilog="Example: stagebeam judge-check --config configs/judge-check.yaml --set limit=200",
)
def judge_check(config: ConfigFile = None, overrides: Overrides = None, debug: Debug = False) -> None:
    """Measure a model as a judge on scored answers: accuracy, order bias, length bias, agreement with itself."""
    with reported(debug=debug, on_interrupt=f"{AGAIN}."):
        from stagebeam.commands import run_judge_check

        run_judge_check(config, overrides or [])


app.add_typer(sources_app, name="sources")
export_commands.register(app)


def main() -> None:
    """The entry point of the command ``stagebeam``."""
    try:
        app()
    finally:
        keep_what_is_loaded()
