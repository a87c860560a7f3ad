"""``retort submit``: hand a spec to the service."""

from __future__ import annotations

from typing import Annotated

import typer

from retort.cli import watch
from retort.cli.documents import load
from retort.cli.options import AsJson, Sets, SpecFile, Url
from retort.cli.output import emit, note
from retort.cli.service import connect


def submit(  # noqa: PLR0917 - typer gives each by name
    spec: SpecFile,
    sets: Sets = None,
    follow: Annotated[bool, typer.Option("--watch", help="Stay, and show the job until it has ended.")] = False,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Submitting twice with one key makes one job.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Owners share the workers fairly.")] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Higher ones are claimed first.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> int:
    """Submit a distillation job; print its id."""
    with connect(url) as client:
        job = client.submit(load(spec, sets), idempotency_key=key, owner=owner, priority=priority)
        if follow:
            note(f"{job['id']} at {client.url}")
            return watch.show(client, job["id"], as_json=as_json)
        if as_json:
            emit(job)
        else:
            typer.echo(job["id"])
            note(f"follow it: retort watch {job['id']}")
    return 0
