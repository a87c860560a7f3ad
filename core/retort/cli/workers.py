"""``retort workers`` and ``retort drain``: list workers, and take them out of service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from retort.cli import completion, pages, render
from retort.cli.options import AsJson, Url, connect, emit, note, say
from retort.client.answers import JobSummary, Worker
from retort.client.client import Client
from retort.errors import UserError
from retort.states import ACTIVE

EVERY_S = 1.0


def workers(url: Url = None, as_json: AsJson = False) -> None:
    """List the workers that run, with their GPUs."""
    with connect(url) as client:
        found = list(client.workers())
    if as_json:
        emit(found)
    elif found:
        render.console().print(render.workers_page(found))
    else:
        note("no worker is running: jobs wait; start one: retort up, or the worker's container")


def drain(
    worker: Annotated[
        str,
        typer.Argument(
            metavar="WORKER",
            help="A worker's name, a unique beginning of it, or the host of the only one there.",
            autocompletion=completion.workers,
        ),
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Let it take jobs again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it trains nothing more.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Let a worker take no more jobs; what it trains goes on to its end, and is told."""
    if resume and wait:
        raise UserError("--resume waits for nothing", hint="leave out --wait", code="usage")
    with connect(url) as client:
        name = _find(client.workers(), worker)
        found = client.resume_worker(name) if resume else client.drain_worker(name)
        if as_json:
            emit(_until_idle(client, found, quiet=True) if wait else found)
            return
        say(f"{name} takes jobs again" if resume else f"{name} takes no more jobs")
        if not resume:
            _tell_rest(client, found, wait=wait)


def _tell_rest(client: Client, worker: Worker, *, wait: bool) -> None:
    """Say what a drained worker still trains, and what comes then."""
    name = worker["name"]
    if worker["busy"]:
        _tell_jobs(client, worker)
        if not wait:
            pages.tell(client, "/workers")
            note(f"stay until it trains nothing more: retort drain {name} --wait")
            return
        worker = _until_idle(client, worker)
    say("it trains nothing: it can be stopped")
    note(f"let it take jobs again: retort drain {name} --resume")


def _until_idle(client: Client, worker: Worker, *, quiet: bool = False) -> Worker:
    """Wait until a drained worker trains nothing; return how it stands then."""
    while worker["busy"]:
        time.sleep(EVERY_S)
        left = next((one for one in client.workers() if one["name"] == worker["name"]), None)
        if left is None:
            hint = "retort workers lists those that run"
            raise UserError(f"worker {worker['name']} runs no more", hint=hint, code="worker_not_found")
        if left.get("drained_at") is None:
            hint = "drain it again to wait for its end"
            raise UserError(f"worker {worker['name']} takes jobs again", hint=hint, code="wrong_state")
        if not quiet and left["busy"] != worker["busy"]:
            _tell_jobs(client, left)
        worker = left
    return worker


def _tell_jobs(client: Client, worker: Worker) -> None:
    """Print the jobs that a worker holds; of other projects, their number."""
    held = _held(client, worker["name"])
    if held:
        say("it waits for:")
        render.console().print(render.jobs_table(held))
    if (others := worker["busy"] - len(held)) > 0:
        say(f"it waits for {others} job{'' if others == 1 else 's'} that this key may not see")


def _held(client: Client, name: str) -> list[JobSummary]:
    """Return the jobs on a worker that the key may see."""
    active = client.list(state=[state.value for state in ACTIVE])
    return [job for job in active if _worker_of(client, job["id"]) == name]


def _worker_of(client: Client, job_id: str) -> str | None:
    attempts = client.get(job_id)["attempts"]
    return attempts[-1]["worker"] if attempts else None


def _find(found: Sequence[Worker], text: str) -> str:
    """Return the name of the one worker that *text* names.

    Raises:
        UserError: none runs that fits, or several do.

    """
    names = [one["name"] for one in found]
    fitting = (
        [name for name in names if name == text]
        or [one["name"] for one in found if one["host"] == text]
        or [name for name in names if name.startswith(text)]
    )
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"{text!r} fits {len(fitting)} workers", hint=f"one is {fitting[0]}", code="worker_ambiguous")
    hint = f"they are {', '.join(names[:5])}" if names else "none runs: start one, retort up"
    raise UserError(f"no worker {text!r} runs", hint=hint, code="worker_not_found")
