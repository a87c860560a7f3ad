"""``retort models``: the registered models that specs may name by digest."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from retort.cli.options import AsJson, Url
from retort.cli.output import emit, note
from retort.cli.service import connect
from retort.errors import UserError

app = typer.Typer(help="List, show and bring models that specs may name.", invoke_without_command=True)


@app.callback()
def models(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List registered models, newest first."""
    if context.invoked_subcommand is not None:
        return
    with connect(url) as client:
        found = list(islice(client.models(), limit))
    _show(found, as_json=as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as street-teacher.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is registered by a name, newest first."""
    with connect(url) as client:
        found = client.model(name)
    _show(found, as_json=as_json)


@app.command()
def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pt file as Ultralytics saves it.")],
    name: Annotated[str, typer.Option(help="What it is called; later ones may have the same name.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Register weights from outside; print the reference that specs may name."""
    from retort.intake import checkpoints

    if not file.is_file():
        raise UserError(f"cannot read {file}", hint="name a .pt file")
    checkpoints.check(file, str(file))  # before it travels
    with connect(url) as client:
        model = client.register_model(file, name)
    if as_json:
        emit(model)
    else:
        typer.echo(model["reference"])
        note("name it in a spec in place of a weights file")


def _show(found: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        emit(list(found))
        return
    from rich.table import Table

    from retort.cli import view
    from retort.names import MAP

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("reference", "architecture", "classes", "mAP50-95", "size", "registered"):
        table.add_column(column, overflow="fold")
    for model in found:
        table.add_row(
            model["reference"], model["architecture"] or "", str(len(model["classes"])) if model["classes"] else "",
            view.score((model["metrics"] or {}).get(MAP)), view.size(model["size_bytes"]),
            view.clock(model["created_at"], "%Y-%m-%d %H:%M:%S"),
        )  # fmt: skip
    view.console().print(table)
