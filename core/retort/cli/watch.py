"""``retort watch``: show a job until it has ended."""

from __future__ import annotations

import time

from retort.cli import jobs, live
from retort.cli.options import AsJson, JobId, Url
from retort.cli.output import note
from retort.cli.service import connect, find
from retort.client import Client
from retort.states import TERMINAL

EVERY_S = 0.5


def watch(job_id: JobId, url: Url = None, as_json: AsJson = False) -> int:
    """Show a job until it has ended; Ctrl-C leaves it running. Exit code as for wait."""
    with connect(url) as client:
        return show(client, find(client, job_id), as_json=as_json)


def show(client: Client, job_id: str, *, as_json: bool) -> int:
    """Show a job until it has ended; return the exit code that says how."""
    seen = 0
    try:
        with live.screen(as_json=as_json) as screen:
            while True:
                job = client.get(job_id)
                events = list(client.events(job_id, after=seen))
                seen = events[-1]["seq"] if events else seen
                screen.show(job, events)
                if job["state"] in TERMINAL:
                    break
                time.sleep(EVERY_S)
    except KeyboardInterrupt:
        note(f"{job_id} goes on; cancel it: retort cancel {job_id}")
        raise
    return jobs.ended(job, as_json=as_json)
