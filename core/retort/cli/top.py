"""``retort top``: a live picture of jobs, queue and workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any

import typer
from rich.live import Live

from retort.cli import render
from retort.cli.options import AsJson, Url, connect, emit
from retort.client.client import Client
from retort.client.transport import ClientError
from retort.states import TERMINAL, JobState

_MOST_JOBS = 200
_ENDED = 5
"""Jobs that have ended last, below those that have not."""


def top(
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once; without a terminal that is so anyway.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show jobs, queue and workers, live until Ctrl-C; with --json a document for each look, on a line."""
    with connect(url) as client:
        if as_json:
            if once:
                return emit(look(client))
            for found in _looks(client, every):
                emit(found)
        console = render.console()
        if once or not render.is_live(console):
            console.print(render.overview(look(client), None))
            return None
        with _pictures() as live:
            for found in _looks(client, every):
                live.update(render.overview(found, live.console.height), refresh=True)
    return None


@contextmanager
def _pictures() -> Iterator[Live]:
    """Draw in place until Ctrl-C, which is how this ends."""
    console = render.PrintableConsole(highlight=False)
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            yield live
    except KeyboardInterrupt:
        return


def _looks(client: Client, every_s: float) -> Iterator[dict[str, Any]]:
    """Yield how things stand, again and again; where the service does not answer for a while, say so and go on."""
    found = look(client)
    while True:
        yield found
        time.sleep(every_s)
        try:
            found = look(client)
        except ClientError as error:
            if not error.retryable:
                raise
            found = {**found, "trouble": error.message}


def look(client: Client) -> dict[str, Any]:
    """Return the jobs that have not ended, the last that have, and the workers, where the key may see them."""
    states = [state.value for state in JobState if state not in TERMINAL]
    jobs = list(islice(client.list(state=states), _MOST_JOBS))
    ended = list(islice(client.list(state=[state.value for state in TERMINAL], order="-finished"), _ENDED))
    try:
        workers = list(client.workers())
    except ClientError as error:
        if error.code != "forbidden":
            raise
        workers = None
    return {"url": client.url, "trouble": None, "jobs": sorted(jobs, key=_place), "ended": ended, "workers": workers}


def _place(job: Any) -> tuple[bool, int, str]:
    """Order those that run before those that wait, and these as they are claimed."""
    position = (job.get("queue") or {}).get("position")
    return job["state"] == JobState.QUEUED, _MOST_JOBS if position is None else position, job["created_at"]
