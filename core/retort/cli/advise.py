"""``retort advise``: measure candidate teachers, and say which should teach."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from retort.cli import jobs, last_jobs, run
from retort.cli.jobs import EXIT_CODES
from retort.cli.options import AsJson, Sets, connect, emit, note
from retort.cli.spec import anchor, load
from retort.cli.spec_options import as_weights, data_source, student_of
from retort.cli.weights import (
    Registrar,
    anchor_weights,
    complete_here,
    digests_with,
    register_here,
    register_weights,
    register_with,
)
from retort.errors import UserError
from retort.spec import AdviceSpec, JobSpec, parse_spec
from retort.spec.advised import AdviceResult
from retort.spec.assignment import assign
from retort.spec.references import complete
from retort.spec.result import readable_result
from retort.spec.training import USUAL_BATCH

NONE_TO_RECOMMEND = 1


def advise(  # noqa: PLR0917 - typer gives each by name
    document: Annotated[
        str | None,
        typer.Argument(metavar="SPEC", help="A request for advice, or a job's spec; - reads standard input."),
    ] = None,
    spec: Annotated[str | None, typer.Option("--spec", metavar="SPEC", help="The same.")] = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate", metavar="WEIGHTS", help="A weights file or a model that might teach. May be repeated."
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A dataset folder with a data.yaml, or that file.")] = None,
    student: Annotated[str | None, typer.Option(help="The student's architecture.", show_default="yolov8n")] = None,
    student_weights: Annotated[str | None, typer.Option(help="Weights that the student starts from.")] = None,
    student_epochs: Annotated[
        int | None,
        typer.Option(
            help="Train the student without a teacher for so many epochs first, which bounds what one can add.",
            show_default="none",
        ),
    ] = None,
    sets: Sets = None,
    out: Annotated[Path | None, typer.Option(help="Folder to work in.", show_default="runs/NAME-…")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, or a GPU's number.", show_default="a GPU if any")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Ask this service instead of measuring here.")] = None,
    as_json: AsJson = False,
) -> int:
    """Compare candidate teachers on the validation images; exit with 1 where none is to be recommended."""
    if document is not None and spec is not None:
        raise UserError("two specs are given", hint="name one")
    source = document if document is not None else spec
    register = register_here if url is None else _register_at(url)
    whole = complete_here if url is None else partial(_complete_at, url)
    wanted = _request(whole(register_weights(load(source), register)) if source else {})
    _options(wanted, candidates=candidates, data=data, student=student, student_weights=student_weights)
    if student_epochs is not None:
        wanted["student_epochs"] = student_epochs
    for assignment in sets or ():
        assign(wanted, assignment)
    anchor(wanted, Path.cwd())
    wanted = whole(register_weights(anchor_weights(wanted, [Path.cwd()]), register))
    if url is not None:
        return _asked(url, wanted, as_json=as_json)
    request = parse_spec(wanted)
    assert isinstance(request, AdviceSpec), "its task says so"
    workdir = (out or Path("runs") / f"{request.name}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    standing = run.execute(request, workdir, device, as_json=as_json)
    code = run.ended(standing, workdir, as_json=as_json)
    return code or _judge(standing["result"])


def _register_at(url: str) -> Registrar:
    """Return what sends weights to the service at *url*."""

    def register(path: Path, name: str) -> str:
        with connect(url) as client:
            return register_with(client)(path, name)

    return register


def _complete_at(url: str, document: Any) -> Any:
    """Return the document with short digests written out by the service at *url*."""
    with connect(url) as client:
        return complete(document, digests_with(client))


def _request(document: dict[str, Any]) -> dict[str, Any]:
    """Return the request for advice that a document is, or that a job's spec gives rise to."""
    if document.get("task", "distill" if "teacher" in document else "advise") == "advise":
        return {**document, "task": "advise"}
    job = parse_spec(document)
    assert isinstance(job, JobSpec), "its task says so"
    own = (job.teacher.weights, *(one.weights for one in job.teacher.ensemble))
    return {
        "task": "advise",
        "name": job.name,
        "data": {"dataset": job.data.dataset} if job.data.path is None else {"path": job.data.path},
        "student": job.student.model_dump(),
        "candidates": list(dict.fromkeys(name for name in own if name is not None)),
        "adapters": {name: one.model_dump() for name, one in job.teacher.adapters().items() if one is not None},
        "imgsz": job.training.imgsz,
        "batch": USUAL_BATCH if job.training.batch == "auto" else job.training.batch,
    }


def _options(
    wanted: dict[str, Any],
    *,
    candidates: list[str] | None,
    data: str | None,
    student: str | None,
    student_weights: str | None,
) -> None:
    """Let what the options say stand in the request; candidates come after those that it has."""
    if candidates:
        named = map(as_weights, candidates)
        wanted["candidates"] = list(dict.fromkeys([*wanted.get("candidates", ()), *named]))
    if data is not None:
        wanted["data"] = data_source(data)
    if student is not None:
        wanted["student"] = student_of(student)
    if student_weights is not None:
        wanted["student"] = {**wanted.get("student", {}), "weights": as_weights(student_weights)}


def _asked(url: str, wanted: dict[str, Any], *, as_json: bool) -> int:
    """Have a worker of the service measure; Ctrl-C leaves the job running."""
    with connect(url) as client:
        job = client.advise(wanted)
        last_jobs.remember(client.url, job["id"])
        note(job["id"])
        if as_json:
            job = client.wait(job["id"])
            emit(job)
            code = EXIT_CODES[job["state"]]
        else:
            code = jobs.show(client, job["id"], as_json=False)
            job = client.get(job["id"])
    return code if job["result"] is None else _judge(job["result"])


def _judge(advice: Any) -> int:
    found = readable_result(advice)
    return 0 if isinstance(found, AdviceResult) and found.recommended else NONE_TO_RECOMMEND
