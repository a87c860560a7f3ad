"""``retort data``: data sets that come with Retort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retort.cli.options import AsJson
from retort.cli.output import emit

app = typer.Typer(help="Make data sets.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Make data sets."""


@app.command()
def demo(  # noqa: PLR0917 - typer gives each by name
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    num_train: Annotated[int, typer.Option("--train", help="Training scenes.")] = 320,
    num_val: Annotated[int, typer.Option("--val", help="Validation scenes.")] = 96,
    imgsz: Annotated[int, typer.Option(help="Side of the scenes in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write scenes of handwritten digits in YOLO layout; nothing is downloaded."""
    from retort import digits

    path = digits.write(folder, num_train=num_train, num_val=num_val, imgsz=imgsz, seed=seed)
    made = {"data_yaml": str(path), "num_train": num_train, "num_val": num_val, "imgsz": imgsz, "seed": seed}
    if as_json:
        emit(made)
    else:
        typer.echo(f"{path}: {num_train} training and {num_val} validation scenes of {imgsz} px")
