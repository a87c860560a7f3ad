"""The commands that read jobs and wait for them."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer

from retort.cli import view
from retort.cli.options import AsJson, JobId, Url
from retort.cli.output import emit, emit_line, note
from retort.cli.service import connect, find
from retort.states import JobState

EXIT_CODES: dict[str, int] = {
    JobState.SUCCEEDED: 0, JobState.FAILED: 1, JobState.CANCELLED: 2, JobState.EXPIRED: 1, JobState.AWAITING_REVIEW: 5,
}  # fmt: skip
TIMEOUT_EXIT = 3


def list_jobs(
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with connect(url) as client:
        found = list(islice(client.list(state=state), limit))
    if as_json:
        emit(found)
    else:
        view.console().print(view.jobs_table(found))


def get(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Show one job: where it stands, what it has reached, why it failed."""
    with connect(url) as client:
        job = client.get(find(client, job_id))
    if as_json:
        emit(job)
    else:
        view.console().print(view.job_page(job))


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Print what has happened to a job, oldest first."""
    with connect(url) as client:
        found = find(client, job_id)
        for event in client.stream(found) if follow else client.events(found):
            if as_json:
                emit_line(event)
            elif line := view.event_line(event):
                typer.echo(line)


def wait(
    job_id: JobId,
    timeout: Annotated[float | None, typer.Option(min=0, help="Give up after so many seconds.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> int:
    """Wait for a job to end. Exit code: 0 succeeded, 1 failed or expired, 2 cancelled, 3 timeout."""
    with connect(url) as client:
        found = find(client, job_id)
        try:
            job = client.wait(found, timeout_s=timeout)
        except TimeoutError as late:
            if as_json:
                emit(client.get(found))
            note(str(late))
            return TIMEOUT_EXIT
        return ended(job, as_json=as_json)


def ended(job: dict[str, Any], *, as_json: bool) -> int:
    """Print how a job has ended; return the exit code that says so."""
    if as_json:
        emit(job)
    else:
        view.console().print(view.job_page(job))
    return EXIT_CODES[job["state"]]
