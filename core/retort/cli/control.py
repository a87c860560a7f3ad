"""The commands that say what is to become of a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from retort.cli.documents import assign
from retort.cli.options import AsJson, JobId, Sets, Url
from retort.cli.output import emit, note
from retort.cli.service import connect, find
from retort.client import Client


def cancel(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Ask for a job to be stopped for good; what it has published stays."""
    _ask(job_id, url, Client.cancel, as_json=as_json)


def stop(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """End a job's training now, and evaluate and publish the best network so far."""
    _ask(job_id, url, Client.stop, as_json=as_json)


def pause(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Stop a job for a while: its worker is free, and it goes on from its last whole epoch."""
    _ask(job_id, url, Client.pause, as_json=as_json)


def resume(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Let a paused job go on."""
    _ask(job_id, url, Client.resume, as_json=as_json)


def priority(
    job_id: JobId,
    value: Annotated[int, typer.Argument(metavar="PRIORITY", min=-100, max=100, help="Higher ones are claimed first.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Let a job that waits be claimed before others, or after them."""
    with connect(url) as client:
        job = client.prioritize(find(client, job_id), value)
    if as_json:
        emit(job)
    else:
        typer.echo(f"{job['id']} has priority {job['priority']}")


def retry(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Make a new job that goes on where one that failed, was cancelled or expired has ended; print its id."""
    with connect(url) as client:
        _tell(client.retry(find(client, job_id)), as_json=as_json)


def clone(job_id: JobId, sets: Sets = None, url: Url = None, as_json: AsJson = False) -> None:
    """Make a new job with a job's spec, from the beginning; print its id."""
    with connect(url) as client:
        found = find(client, job_id)
        if not sets:
            return _tell(client.clone(found), as_json=as_json)
        # Not as a merge patch: that cannot set a field to null, which says something in a spec.
        old = client.get(found)
        for assignment in sets:
            assign(old["spec"], assignment)
        job = client.submit(old["spec"], owner=old["owner"], priority=old["priority"])
        return _tell(job, as_json=as_json)


def _ask(job_id: str, url: str | None, what: Callable[[Client, str], dict[str, Any]], *, as_json: bool) -> None:
    with connect(url) as client:
        job = what(client, find(client, job_id))
    if as_json:
        emit(job)
    else:
        typer.echo(f"{job['id']} is {job['state']}")


def _tell(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(job)
    else:
        typer.echo(job["id"])
        note(f"follow it: retort watch {job['id']}")
