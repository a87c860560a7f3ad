"""``retort download``: fetch what a job has published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retort.cli import view
from retort.cli.options import AsJson, JobId, Url
from retort.cli.output import emit
from retort.cli.service import connect, find
from retort.errors import UserError

TENSORBOARD = "tensorboard"
"""Made when it is asked for, and so not listed."""


def download(
    job_id: JobId,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Artifacts; none means all. tensorboard: the curves as event files."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a job's artifacts: continues where a broken download stopped, and verifies every SHA-256."""
    with connect(url) as client:
        found = find(client, job_id)
        published = {item["name"]: item for item in client.artifacts(found)}
        wanted = [name for name in names if name != TENSORBOARD] if names else sorted(published)
        if missing := [name for name in wanted if name not in published]:
            raise UserError(
                f"{found} has published no {missing[0]}",
                hint=f"it has: {', '.join(sorted(published)) or 'nothing yet'}",
                code="artifact_not_found",
            )
        done: list[dict[str, Any]] = []
        with view.transfer_bar() as bar:
            for name in wanted:
                path = client.download(found, name, inside(out, name), progress=bar.of(name))
                done.append({**published[name], "path": str(path)})
                if not as_json:
                    bar.say(f"{path}  {view.size(published[name]['size_bytes'])}")
        if TENSORBOARD in (names or ()):
            path = client.tensorboard(found, out / f"{TENSORBOARD}.zip")
            done.append({"name": TENSORBOARD, "path": str(path), "size_bytes": path.stat().st_size})
            if not as_json:
                typer.echo(f"{path}  {view.size(path.stat().st_size)}")
    if as_json:
        emit(done)


def inside(folder: Path, name: str) -> Path:
    """Return the path of *name* in *folder*; a service cannot make us write elsewhere.

    Raises:
        UserError: the name leads out of the folder.

    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"refusing the artifact name {name!r}: it leads out of {folder}")
    return path
