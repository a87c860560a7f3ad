"""``retort delete``, ``restore``, ``keep``, ``prune`` and ``usage``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from retort.cli import completion, render
from retort.cli.last_jobs import MARK
from retort.cli.options import AsJson, Url, connect, emit, find, find_sweep, say
from retort.client.answers import Job, Sweep
from retort.client.client import Client
from retort.errors import UserError
from retort.model_ref import WRITTEN, is_written

What = Annotated[
    list[str],
    typer.Argument(
        metavar="WHAT...",
        help="Jobs (name or id), sweeps (swp_…), models (NAME@DIGEST), artifacts (JOB/NAME).",
        autocompletion=completion.jobs,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and take nothing.")]


def delete(what: What, url: Url = None, as_json: AsJson = False) -> None:
    """Move jobs, sweeps, models or artifacts to the trash; restore brings them back."""
    _each(what, url, "deleted", as_json=as_json)


def restore(what: What, url: Url = None, as_json: AsJson = False) -> None:
    """Take jobs, sweeps, models or artifacts out of the trash. Name them by whole ids."""
    _each(what, url, "restored", as_json=as_json)


def keep(
    what: Annotated[
        str,
        typer.Argument(
            metavar="JOB|SWEEP", help="A job's name, or the id of a job or a sweep.", autocompletion=completion.jobs
        ),
    ],
    off: Annotated[bool, typer.Option("--off", help="Unpin it.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Pin a job, or a sweep with its jobs, so that retention passes it by."""
    found: Job | Sweep
    with connect(url) as client:
        if what.startswith("swp_"):
            found = client.keep_sweep(find_sweep(client, what), keep=not off)
        else:
            found = client.keep(find(client, what), keep=not off)
    if as_json:
        emit(found)
    else:
        say(f"{found['id']} is {'pinned' if found['keep'] else 'not pinned'}")


def prune(dry_run: DryRun = False, url: Url = None, as_json: AsJson = False) -> None:
    """Apply retention now: what has been kept for long enough goes, and what nothing points to."""
    with connect(url) as client:
        answers = [client.prune(dry_run=dry_run)]
        while not dry_run and not answers[-1]["done"]:
            answers.append(client.prune())
    if as_json:
        emit(answers[0] if dry_run else answers)
        return
    verb = "would go" if dry_run else "went"
    for share in (share for answer in answers for share in answer["shares"]):
        size = f", {render.size(share['size_bytes'])}" if share["size_bytes"] else ""
        say(f"{share['number']} {share['kind']} {verb}{size}")
    last = answers[-1]
    if freed := sum(answer["freed_bytes"] for answer in answers):
        say(f"{render.size(freed)} given back")
    if last["waiting_keys"]:
        say(f"{last['waiting_keys']} files that nothing points to wait: {render.size(last['waiting_bytes'])}")
    if not any(answer["shares"] for answer in answers) and not last["waiting_keys"]:
        say("nothing to take")


def usage(url: Url = None, as_json: AsJson = False) -> None:
    """Show what is used: bytes by owner and kind, jobs, and GPU hours by month."""
    with connect(url) as client:
        found = client.usage()
    if as_json:
        emit(found)
        return
    for one in found["stored"]:
        gone = f" ({render.size(one['deleted_bytes'])} in the trash)" if one["deleted_bytes"] else ""
        say(f"{one['owner']}  {one['kind']}  {one['number']} files  {render.size(one['size_bytes'])}{gone}")
    for jobs in found["jobs"]:
        states = ", ".join(f"{number} {state}" for state, number in sorted(jobs["states"].items()))
        say(f"{jobs['owner']}  jobs: {states}")
    for worked in found["worked"]:
        hours = f"{worked['run_s'] / 3600:.1f} h, {worked['gpu_s'] / 3600:.1f} GPU hours"
        say(f"{worked['owner']}  {worked['month']}: {worked['jobs']} jobs, {worked['attempts']} attempts, {hours}")


def _each(what: list[str], url: str | None, verb: str, *, as_json: bool) -> None:
    done = []
    with connect(url) as client:
        for text in what:
            name = _one(client, text, deleting=verb == "deleted")
            done.append({"name": name, "state": verb})
            if not as_json:
                say(f"{name} is {verb}")
    if as_json:
        emit(done)


def _one(client: Client, text: str, *, deleting: bool) -> str:
    """Delete or restore what *text* names; return its whole name."""
    job, slash, artifact = text.partition("/")
    if slash:
        job_id = find(client, job)
        act: Any = client.delete_artifact if deleting else client.restore_artifact
        act(job_id, artifact)
        return f"{job_id}/{artifact}"
    if is_written(text):
        name, _, digits = text.removeprefix("model:").partition("@")
        act = client.delete_model if deleting else client.restore_model
        act(name, digits.removeprefix("sha256:"))
        return text
    if "@" in text and not text.startswith(MARK):
        raise UserError(f"{text!r} names no model", hint=f"write NAME@DIGEST, as retort models shows it: {WRITTEN}")
    if text.startswith("swp_"):
        sweep_id = find_sweep(client, text)
        act = client.delete_sweep if deleting else client.restore_sweep
        act(sweep_id)
        return sweep_id
    job_id = find(client, text)
    act = client.delete if deleting else client.restore
    act(job_id)
    return job_id
