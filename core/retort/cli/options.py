"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Url = Annotated[
    str | None, typer.Option("--url", help="Address of the service.", show_default="RETORT_URL, or 127.0.0.1:8000")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or a unique beginning or end of it.")]
SpecFile = Annotated[str, typer.Argument(metavar="SPEC", help="A YAML or JSON file; - reads standard input.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Replace a field: training.epochs=3. May be repeated."),
]
SweepId = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's id, or a unique beginning or end of it.")]
SweepFile = Annotated[str, typer.Argument(metavar="FILE", help="A YAML or JSON file; - reads standard input.")]
