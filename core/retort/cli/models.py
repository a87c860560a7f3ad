"""``retort models``: the registered models that specs may name by digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from retort.cli import completion, pages
from retort.cli.options import AsJson, Url, connect, emit, note, say
from retort.cli.weights import digests_with
from retort.client.answers import Model
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
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Such as street-teacher; one of it: NAME@DIGITS.", autocompletion=completion.models
        ),
    ],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is registered by a name, newest first."""
    from retort import model_ref

    with connect(url) as client:
        one = model_ref.complete(name, digests_with(client))
        found = client.model(name if one is None else one.name)
    found = tuple(model for model in found if one is None or model["sha256"] == one.sha256)
    _show(found, as_json=as_json)


_SHOWN = 20
"""Characters of a file's name beside a progress bar: terminals have 80."""


def _sent(file: Path, name: str, about: tuple[str | None, str | None], url: str | None) -> Model:
    """Check and send a file of weights; *about* is what completes it."""
    from retort.cli.render import transfer_bar
    from retort.data import weights

    if not file.is_file():
        raise UserError(f"cannot read {file}", hint="name a file of weights")
    with _complete(file, *about) as whole:
        weights.check_checkpoint(whole, str(file))  # before it travels
        with connect(url) as client, transfer_bar() as bar:
            return client.register_model(whole, name, progress=bar.of(f"send {file.name[:_SHOWN]}"))


@app.command()
def push(  # noqa: PLR0917 - options, by name
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A .pt, .safetensors or .onnx file, or an https:// URL of a .pt file.")
    ],
    name: Annotated[str, typer.Option(help="What it is called; later ones may have the same name.")],
    architecture: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="What .safetensors or .onnx are of: yolo11n, or the model's YAML file."),
    ] = None,
    names: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Their classes in order, where the file does not say them.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(metavar="HEX", help="Of what is at a URL; another is refused.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Register weights from outside; print the reference that specs may name."""
    from retort.cli.render import transfer_bar

    if file.startswith("https://"):
        if architecture or names:
            raise UserError("--architecture and --names are of files here", hint="fetch a .pt file, or send the file")
        with connect(url) as client, transfer_bar() as bar:
            model = client.fetch_model(file, name, sha256=sha256, progress=bar.of("fetch"))
    else:
        if sha256 is not None:
            raise UserError("--sha256 is of what is at a URL", hint="leave it out: digests of files are computed")
        model = _sent(Path(file), name, (architecture, names), url)
    if as_json:
        emit(model)
    else:
        say(model["reference"])
        note("name it in a spec in place of a weights file")
        with connect(url) as client:
            pages.tell(client, pages.named("models", name))


@contextmanager
def _complete(file: Path, architecture: str | None, names: str | None) -> Iterator[Path]:
    """Yield *file*, or a copy that says which network it is."""
    if architecture is None and names is None:
        yield file
        return
    from retort.checkpoints import states

    text = architecture
    if architecture is not None and architecture.endswith((".yaml", ".yml")) and Path(architecture).is_file():
        text = Path(architecture).read_text(encoding="utf-8")
    with TemporaryDirectory(prefix="retort-") as folder:
        whole = Path(folder) / file.name
        told = [one.strip() for one in (names or "").split(",") if one.strip()]
        states.completed(file, whole, str(file), architecture_text=text, names=told)
        yield whole


@app.command()
def pull(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE", help="model:NAME@sha256:DIGEST, or NAME@DIGITS.", autocompletion=completion.models
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="where local runs look for the reference")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a registered model: local runs may then name it, too."""
    from retort import model_ref
    from retort.data import weights
    from retort.settings import Settings

    model_dir = Settings().model_dir
    assert model_dir is not None
    with connect(url) as client:
        wanted = model_ref.complete(reference, digests_with(client))
        if wanted is None:
            raise UserError(f"{reference!r} is not a reference", hint=model_ref.FORM)
        path = client.download_model(wanted.name, wanted.sha256, out or weights.registered_path(wanted, model_dir))
    if as_json:
        emit({"reference": str(wanted), "path": str(path)})
    else:
        say(str(path))


def _show(found: Iterable[Model], *, as_json: bool) -> None:
    if as_json:
        emit(list(found))
        return
    from retort.cli import render
    from retort.constants import MAP

    column, figure = render.Column, render.figure
    table = render.FittedTable(
        "reference", column("architecture", rank=2), figure("classes", 3), figure("mAP50-95", 1), figure("size", 4),
        column("registered", rank=5),
    )  # fmt: skip
    for model in found:
        table.add_row(
            model["reference"], model["architecture"] or "", str(len(model["classes"])) if model["classes"] else "",
            render.score((model["metrics"] or {}).get(MAP)), render.size(model["size_bytes"]),
            render.clock(model["created_at"], "%Y-%m-%d %H:%M:%S"),
        )  # fmt: skip
    render.console().print(table)
