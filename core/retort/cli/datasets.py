"""``retort datasets``: bring, list, show, fetch and delete datasets of a service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retort import dataset_ref
from retort.cli import completion, pages
from retort.cli.options import AsJson, Url, connect, emit, note, say
from retort.errors import UserError

if TYPE_CHECKING:
    from retort.client import Client
    from retort.client.answers import RegisteredDataset
    from retort.dataset_ref import DatasetRef

app = typer.Typer(help="Bring, list, show, fetch and delete datasets of a service.", no_args_is_help=True)
Reference = Annotated[
    str,
    typer.Argument(
        metavar="REFERENCE",
        help="dataset:NAME for the newest, NAME@DIGITS, or written out.",
        autocompletion=completion.datasets,
    ),
]


@app.callback()
def datasets() -> None:
    """Bring, list, show, fetch and delete datasets of a service."""


@app.command()
def push(  # noqa: PLR0917 - typer gives each by name
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A folder, a zip, tar, tar.gz or tar.zst of one, or an https:// URL.")
    ],
    name: Annotated[str, typer.Option(help="What it is called; later ones may have the same name.")],
    sha256: Annotated[str | None, typer.Option(metavar="HEX", help="Of what is at a URL; another is refused.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until a worker has looked through it.")] = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Send a dataset, resumably; print the reference that specs may name."""
    with connect(url) as client:
        if path.startswith("https://"):
            dataset = fetched(client, path, name, sha256=sha256, wait=wait)
        else:
            if sha256 is not None:
                raise UserError("--sha256 is of what is at a URL", hint="leave it out: digests of files are computed")
            dataset = pushed(client, Path(path), name, wait=wait)
        if as_json:
            emit(dataset)
            return
        say(dataset["reference"] or f"{dataset['id']} {dataset['state']}")
        note(f"name it in a spec: data: {{dataset: dataset:{name}}}")
        pages.tell(client, pages.named("data", name))


def pushed(client: Client, path: Path, name: str, *, wait: bool = True) -> RegisteredDataset:
    """Send the dataset at *path* with a progress bar; return it, ready unless told not to wait.

    Raises:
        ClientError: it was refused; what is doubtful in one that is ready is noted.

    """
    from retort.cli.render import transfer_bar

    with transfer_bar() as bar:
        shown = path.resolve().name[:_SHOWN] or "dataset"
        dataset = client.datasets.push(path, name, reading=bar.of(f"read {shown}"), progress=bar.of(f"send {shown}"))
    if not wait:
        return dataset
    if dataset["state"] not in {"ready", "refused"}:
        note("sent; a worker looks through it")
    dataset = client.datasets.wait(dataset)
    _note_doubts(dataset)
    return dataset


def fetched(
    client: Client, address: str, name: str, *, sha256: str | None = None, wait: bool = True
) -> RegisteredDataset:
    """Have the service fetch the dataset at *address*; return it, ready unless told not to wait.

    Raises:
        ClientError: it cannot be fetched, or was refused.

    """
    from retort.cli.render import transfer_bar

    dataset = client.datasets.fetch(address, name, sha256=sha256)
    if not wait:
        return dataset
    if dataset["state"] == "uploading" and dataset["upload_id"]:
        with transfer_bar() as bar:
            client.uploads.wait(dataset["upload_id"], progress=bar.of("fetch"))
        note("fetched; a worker looks through it")
    dataset = client.datasets.wait(dataset)
    _note_doubts(dataset)
    return dataset


_SHOWN = 20
"""Characters of a file's name beside a progress bar: terminals have 80."""


def with_pushed_data(document: Any, client: Client, *, push: bool) -> Any:
    """Return a spec whose local folder of data is a pushed dataset, if *push*; else note what could be done."""
    data = document.get("data") if isinstance(document, dict) else None
    path = data.get("path") if isinstance(data, dict) else None
    if not isinstance(path, str) or not Path(path).expanduser().exists():
        if push:
            raise UserError("--push: data.path is not on this machine", hint="leave it out, or name a folder here")
        return document
    if not push:
        if not client.is_local:
            note(f"data.path is looked for on the service's host; to send {path} along, add --push")
        return document
    assert isinstance(data, dict)
    name = _plain(Path(path).expanduser().resolve().name)
    dataset = pushed(client, Path(path).expanduser(), name)
    rest = {key: value for key, value in data.items() if key != "path"}
    return {**document, "data": {**rest, "dataset": dataset["reference"]}}


def _plain(name: str) -> str:
    kept = "".join(character if character.isascii() and character.isalnum() else "-" for character in name)
    return kept.strip("-")[:60] or "dataset"


@app.command("list")
def list_datasets(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List datasets, newest first, those too that are not ready."""
    with connect(url) as client:
        found = list(islice(client.datasets.list(), limit))
    if as_json:
        emit(found)
    else:
        _table(found)


@app.command()
def show(reference: Reference, url: Url = None, as_json: AsJson = False) -> None:
    """Show what a dataset holds, and what was found in it."""
    with connect(url) as client:
        dataset = _named(client, reference)
    if as_json:
        emit(dataset)
        return
    _table([dataset])
    for number, name in enumerate(dataset["classes"]):
        counts = ", ".join(f"{split['boxes'][number]:,} {kind}" for kind, split in dataset["splits"].items())
        say(f"  {name}: {counts}")
    for told in dataset["notes"]:
        note(told)
    _note_doubts(dataset)


@app.command()
def pull(reference: Reference, url: Url = None, as_json: AsJson = False) -> None:
    """Fetch a dataset: local runs may then name it, too."""
    from retort.data import registered_datasets
    from retort.settings import Settings

    folder = Settings().dataset_dir
    assert folder is not None
    with connect(url) as client:
        wanted = _reference(client, reference)
        if not registered_datasets.is_fetched(wanted.sha256, folder):
            archive = folder / registered_datasets.FOLDER / f"{wanted.sha256}.tar"
            client.datasets.download(wanted.name, wanted.sha256, archive)
            registered_datasets.lay_out(archive, wanted.sha256, folder)
            archive.unlink()
    path = registered_datasets.folder_of(wanted.sha256, folder)
    if as_json:
        emit({"reference": str(wanted), "path": str(path)})
    else:
        say(str(path))


@app.command("rm")
def remove(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE", help="NAME@DIGITS, written out, or NAME@dst_ID.", autocompletion=completion.datasets
        ),
    ],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete one version of a dataset; specs cannot name it any more."""
    with connect(url) as client:
        dataset = _named(client, reference)
        client.datasets.delete(dataset["name"], dataset["id"])
    if as_json:
        emit(dataset)
    else:
        say(f"{dataset['reference'] or dataset['id']} is deleted")


def _named(client: Client, text: str) -> RegisteredDataset:
    """Return the version that *text* means; one that is not ready is named by its id."""
    name, _, version = text.removeprefix(dataset_ref.PREFIX).partition("@")
    if version.startswith("dst_") or (not version and not text.startswith(dataset_ref.PREFIX)):
        return client.datasets.version(name, version) if version else client.datasets.versions(name)[0]
    wanted = _reference(client, text)
    return client.datasets.version(wanted.name, wanted.sha256)


def _reference(client: Client, text: str) -> DatasetRef:
    plain = text if "@" in text or text.startswith(dataset_ref.PREFIX) else f"{dataset_ref.PREFIX}{text}"
    wanted = dataset_ref.complete(plain, lambda name: _digests(client, name))
    if wanted is None:
        raise UserError(f"{text!r} is not a reference", hint=dataset_ref.FORM)
    return wanted


def _digests(client: Client, name: str) -> list[str]:
    return [one["sha256"] for one in client.datasets.list(name=name) if one["state"] == "ready" and one["sha256"]]


def _note_doubts(dataset: Mapping[str, Any]) -> None:
    for finding in dataset["findings"]:
        hint = f" ({finding['hint']})" if finding["hint"] else ""
        counted = f": {finding['number']:,}" if finding["number"] > 1 else ""
        note(f"{finding['severity']}: {finding['message']}{counted}{hint}")
        for place in finding["places"]:
            note(f"  {place}")


def _table(found: Iterable[Mapping[str, Any]]) -> None:
    from retort.cli import render

    column, figure = render.Column, render.figure
    table = render.FittedTable(
        "dataset", "state", figure("classes", 2), figure("images", 1), figure("size", 3), column("created", rank=4)
    )
    for one in found:
        version = one["sha256"][:12] if one["sha256"] else one["id"]
        images = "/".join(str(split["num_images"]) for split in one["splits"].values())
        table.add_row(
            f"{one['name']}@{version}", one["state"], str(len(one["classes"]) or ""), images,
            render.size(one["size_bytes"]) if one["size_bytes"] else "",
            render.clock(one["created_at"], "%Y-%m-%d %H:%M"),
        )  # fmt: skip
    render.console().print(table)
