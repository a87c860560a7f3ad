"""``retort submit``, ``ls``, ``get``, ``watch``, ``wait`` and the other commands on jobs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from retort.cli import last_jobs, options, pages, render
from retort.cli.datasets import with_pushed_data
from retort.cli.options import AsJson, JobId, Sets, Url, connect, emit, find, note, say
from retort.cli.spec import load
from retort.cli.spec_options import (
    DataOption,
    EpochsOption,
    ImgszOption,
    OptionalSpecFile,
    Options,
    StudentOption,
    TeacherOption,
)
from retort.cli.weights import anchor_weights, register_weights, register_with
from retort.client.answers import Job
from retort.client.client import Client
from retort.errors import UserError
from retort.spec.assignment import assign
from retort.states import TERMINAL, JobState

EXIT_CODES: dict[str, int] = {
    JobState.SUCCEEDED: 0, JobState.FAILED: 1, JobState.CANCELLED: 2, JobState.EXPIRED: 1, JobState.AWAITING_REVIEW: 5,
}  # fmt: skip
TIMEOUT_EXIT = 3


def list_jobs(  # noqa: PLR0917 - typer gives each by name
    words: Annotated[
        list[str] | None, typer.Argument(help="Words that stand in the name or the labels.", show_default=False)
    ] = None,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only jobs with this label: KEY=VALUE, or KEY.")] = None,
    order: Annotated[
        str | None, typer.Option(help="created, finished, name or best; - in front for the largest first.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first or in another order."""
    with connect(url) as client:
        text, labels = " ".join(words or ()) or None, options.labels_of(label)
        found = list(islice(client.list(labels=labels, state=state, order=order, q=text), limit))
    if as_json:
        emit(found)
    else:
        render.console().print(render.jobs_table(found))


def get(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Show one job: where it stands, what it has reached, why it failed."""
    with connect(url) as client:
        job = client.get(find(client, job_id))
    if as_json:
        emit(job)
    else:
        render.console().print(render.job_page(job))


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Print what has happened to a job, oldest first, and for what it waits."""
    with connect(url) as client:
        found = find(client, job_id)
        job = client.get(found)
        for event in client.stream(found) if follow else client.events(found):
            if as_json:
                emit(event)
            elif line := render.event_line(event, render.epochs_of(job), found):
                say(line)
        if not as_json and not follow and (waits := render.waiting_text(job)):
            note(f"waits: {waits}")


def wait(
    job_id: JobId,
    timeout: Annotated[float | None, typer.Option(min=0, help="Give up after so many seconds.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> int:
    """Wait for a job to end. Exit code: 0 succeeded, 1 failed or expired, 2 cancelled, 3 timeout."""
    with connect(url) as client:
        found = find(client, job_id)
        if not as_json and client.get(found):  # a service that does not answer has no page
            pages.tell(client, pages.job(found))
        try:
            job = client.wait(found, timeout_s=timeout)
        except TimeoutError as late:
            if as_json:
                emit(client.get(found))
            note(str(late))
            return TIMEOUT_EXIT
        return ended(job, as_json=as_json)


def ended(job: Job, *, as_json: bool) -> int:
    """Print how a job has ended; return the exit code that says so."""
    if as_json:
        emit(job)
    else:
        render.console().print(render.job_page(job))
    return EXIT_CODES[job["state"]]


EVERY_S = 0.5
_WATCHED_TO = TERMINAL | {JobState.AWAITING_REVIEW}
"""States in which nothing more happens by itself."""
REPORT = "report.html"


def watch(job_id: JobId, url: Url = None, as_json: AsJson = False) -> int:
    """Show a job until it has ended; Ctrl-C leaves it running. Exit code as for wait."""
    with connect(url) as client:
        return show(client, find(client, job_id), as_json=as_json)


def show(client: Client, job_id: str, *, as_json: bool) -> int:
    """Show a job until it has ended; return the exit code that says how."""
    seen = 0
    try:
        epochs = render.epochs_of(client.get(job_id))
        if not as_json:
            pages.tell(client, pages.job(job_id))
        with render.screen(as_json=as_json, epochs=epochs) as screen:
            while True:
                job = client.get(job_id)
                events = list(client.events(job_id, after=seen))
                seen = events[-1]["seq"] if events else seen
                screen.show(job, events)
                if job["state"] in _WATCHED_TO:
                    break
                time.sleep(EVERY_S)
    except KeyboardInterrupt:
        note(f"{job_id} goes on; cancel it: retort cancel {job_id}")
        raise
    if as_json:
        emit(job)
        return EXIT_CODES[job["state"]]
    code = ended(job, as_json=False)
    _say_next(client, job)
    return code


def _say_next(client: Client, job: Job) -> None:
    """Say where the report of an ended job is, and which command comes next."""
    short = render.short(job["id"])
    if job["state"] == "awaiting_review":
        pages.tell(client, pages.job(job["id"], "review"), "look at its pseudo-labels")
        note(f"in a browser, logged in: retort open {short}")
        note(f"all images in one file: retort review sheet {short}")
        note(f"next: retort review complete {short}")
    elif job["state"] == "succeeded":
        if any(item["name"] == REPORT for item in client.artifacts(job["id"])):
            pages.tell(client, pages.job(job["id"], "report"), "report")
            note(f"in a browser, logged in: retort open {short}")
        note(f"next: retort download {short} --out {shlex.quote(job['name'])}")
    elif job["state"] in {JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}:
        note(f"what happened: retort logs {short}")
        note(f"next: retort retry {short}, which goes on where it ended")


def submit(  # noqa: PLR0917 - typer gives each by name
    spec: OptionalSpecFile = None,
    data: DataOption = None,
    teacher: TeacherOption = None,
    student: StudentOption = None,
    epochs: EpochsOption = None,
    imgsz: ImgszOption = None,
    sets: Sets = None,
    follow: Annotated[bool, typer.Option("--watch", help="Stay, and show the job until it has ended.")] = False,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Submitting twice with one key makes one job.")
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Send the folder of data.path along, as a dataset.")] = False,
    owner: Annotated[str | None, typer.Option(help="Owners share the workers fairly.")] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Higher ones are claimed first.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="By which it is found again: KEY=VALUE.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> int:
    """Submit a distillation job; print its id. Weights named by path are sent along, once."""
    more = Options(data=data, teacher=teacher, student=student, epochs=epochs, imgsz=imgsz)
    document = load(spec, sets, more)
    with connect(url) as client:
        document = with_pushed_data(document, client, push=push)
        document = register_weights(document, register_with(client))
        labels = {name: value or "" for name, value in options.labels_of(label).items()}
        job = client.submit(document, idempotency_key=key, owner=owner, priority=priority, labels=labels)
        last_jobs.remember(client.url, job["id"])
        if follow:
            note(job["id"])
            return show(client, job["id"], as_json=as_json)
        if as_json:
            emit(job)
        else:
            say(job["id"])
            _note_warnings(client, job["id"])
            _tell_way(client, job["id"])
    return 0


def _tell_way(client: Client, job_id: str) -> None:
    """Say how a job that was just made is followed."""
    note(f"follow it: retort watch {last_jobs.MARK}")
    pages.tell(client, pages.job(job_id))


def _note_warnings(client: Client, job_id: str) -> None:
    """Print what was noticed when the job was submitted: its first events."""
    for event in client.events(job_id):
        if event["type"] == "log" and event["level"] == "warning" and event["seq"] > 1:
            note(f"warning: {event['message']}")
        elif event["seq"] > 1:
            break


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
        say(f"{job['id']} has priority {job['priority']}")


def label(
    job_id: JobId,
    labels: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="KEY= with nothing removes the label.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Label a job, so that it is found again: retort ls --label KEY=VALUE."""
    wanted = {key: value or None for key, value in options.labels_of(labels).items()}
    with connect(url) as client:
        job = client.change(find(client, job_id), labels=wanted)
    if as_json:
        emit(job)
    else:
        say(f"{job['id']} has the labels " + (", ".join(f"{k}={v}" for k, v in job["labels"].items()) or "none"))


def predict(
    job_id: JobId,
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An image file.")],
    confidence: Annotated[float, typer.Option(min=0.05, max=1, help="Lowest score of a box.")] = 0.25,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Print the boxes that a job's last network finds on an image, also while the job runs."""
    with connect(url) as client:
        found = client.predict(find(client, job_id), image, confidence=confidence)
    if as_json:
        emit(found)
        return
    for box in found["boxes"]:
        sides = " ".join(f"{box[side]:.3f}" for side in ("x1", "y1", "x2", "y2"))
        say(f"{box['score']:.2f} {box['name']} {sides}")
    which = "student.pt" if found["final"] else f"the best network so far, of epoch {found['epoch']}"
    note(f"{len(found['boxes'])} boxes by {which}; sides are shares of {found['width']} x {found['height']} pixels")


def retry(job_id: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Make a new job that goes on where one that failed, was cancelled or expired has ended; print its id."""
    with connect(url) as client:
        _tell(client, client.retry(find(client, job_id)), as_json=as_json)


def clone(job_id: JobId, sets: Sets = None, url: Url = None, as_json: AsJson = False) -> None:
    """Make a new job with a job's spec, from the beginning; print its id."""
    with connect(url) as client:
        found = find(client, job_id)
        if not sets:
            return _tell(client, client.clone(found), as_json=as_json)
        # Not as a merge patch: that cannot set a field to null, which says something in a spec.
        old = client.get(found)
        for assignment in sets:
            assign(old["spec"], assignment)
        spec = register_weights(anchor_weights(old["spec"], [Path.cwd()]), register_with(client))
        job = client.submit(spec, owner=old["owner"], priority=old["priority"])
        return _tell(client, job, as_json=as_json)


def extend(
    job_id: JobId,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs to add.")],
    name: Annotated[str | None, typer.Option("--name", help="Of the new job.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a new job that adds epochs to one that has succeeded, from its last state; print its id."""
    with connect(url) as client:
        _tell(client, client.extend(find(client, job_id), epochs, name=name), as_json=as_json)


def _ask(job_id: str, url: str | None, what: Callable[[Client, str], Job], *, as_json: bool) -> None:
    with connect(url) as client:
        job = what(client, find(client, job_id))
    if as_json:
        emit(job)
    else:
        say(f"{job['id']} is {job['state']}")


def _tell(client: Client, job: Job, *, as_json: bool) -> None:
    last_jobs.remember(client.url, job["id"])
    if as_json:
        emit(job)
    else:
        say(job["id"])
        _tell_way(client, job["id"])


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
        with render.transfer_bar() as bar:
            for name in wanted:
                path = client.download(found, name, inside(out, name), progress=bar.of(name))
                done.append({**published[name], "path": str(path)})
                if not as_json:
                    bar.say(f"{path}  {render.size(published[name]['size_bytes'])}")
        if TENSORBOARD in (names or ()):
            path = client.tensorboard(found, out / f"{TENSORBOARD}.zip")
            done.append({"name": TENSORBOARD, "path": str(path), "size_bytes": path.stat().st_size})
            if not as_json:
                say(f"{path}  {render.size(path.stat().st_size)}")
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
