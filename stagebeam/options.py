"""Options that commands share. Light: help imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings in YAML.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting over the file's; dotted keys, YAML values; repeat."),
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Run on this Ray (auto: the node's); else start one."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error too.")]

AGAIN = "Run the same command again"
