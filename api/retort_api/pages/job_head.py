"""Read what stands at the top of every page of a job."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from retort.access import Principal
from retort.db import Session, events, jobs, metrics
from retort.db.events import EventFilter
from retort.db.metrics import SeriesName
from retort.db.models import JobRow
from retort.db.session import database_now
from retort.protocol.workdir import ENDED
from retort.spec.result import JobResult
from retort.states import TERMINAL, JobState

from retort_api.deps import AppState, guarded
from retort_api.pages import words
from retort_api.pages.job_changes import ChangeableField, changeable
from retort_api.pages.job_stages import TRAINED_BY, StageStep, steps, trains_yet
from retort_api.pages.rendering import render
from retort_api.schemas.jobs import Job

_LOSS = "train/loss"
_STOPPABLE = {JobState.QUEUED, JobState.RUNNING, JobState.PAUSED}


@dataclass(frozen=True, slots=True)
class JobTab:
    """One of the pages of a job."""

    name: str
    title: str
    path: str


@dataclass(frozen=True, slots=True)
class EpochPlace:
    """How far the training that runs has come."""

    role: str
    number: int
    """Of the epoch that runs; of the last one once all are done."""
    planned: int | None


@dataclass(frozen=True, slots=True)
class JobActions:
    """Actions that the state of a job allows."""

    stop: bool
    pause: bool
    resume: bool
    cancel: bool
    retry: bool
    extend: bool
    delete: bool
    restore: bool


@dataclass(frozen=True, slots=True)
class JobTop:
    """A job, and what is worked out of it for its pages."""

    job: Job
    task: str
    now: float
    last_seq: int
    stages: tuple[StageStep, ...]
    epoch: EpochPlace | None
    device: str | None
    actions: JobActions
    changes: tuple[ChangeableField, ...]
    """Fields that the hint of its failure names."""
    tabs: tuple[JobTab, ...]
    warnings: tuple[str, ...]
    """What the service or the run warned of, the latest few."""
    token: str
    """New with every page: a form of it that is sent twice makes one job."""

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.job.state in TERMINAL

    @property
    def student_trained(self) -> bool:
        """Whether the student's training is over."""
        return any(one.name == "distill" and one.where == "done" for one in self.stages)

    @property
    def stage(self) -> str | None:
        """The stage under way in words."""
        return next((one.title for one in self.stages if one.where == "now"), None)


def read_head(session: Session, job_id: str) -> tuple[JobTop, JobRow]:
    """Read a job with what its pages begin with."""
    job = jobs.get(session, job_id)
    attempts, transitions = jobs.attempts_of_job(session, job_id), jobs.transitions_of_job(session, job_id)
    now = database_now(session)
    warned = events.latest(session, job_id, EventFilter(types=("log",), levels=("warning", "error")), 3)
    whole = Job.whole(job, attempts, transitions, None)
    task = job.spec.get("task") or "distill"
    stages = steps(job.spec, job.state, transitions, now, _skipped(job), tried=bool(attempts))
    head = JobTop(
        job=whole,
        task=task,
        now=now,
        last_seq=job.last_seq,
        stages=stages,
        epoch=_epoch(session, job),
        device=attempts[-1].device if attempts and job.state is not JobState.QUEUED else None,
        actions=_actions(job, stages),
        changes=() if job.failure is None else changeable(job.failure, job.spec),
        tabs=_tabs(job, task),
        warnings=tuple(row.message or "" for row in warned),
        token=secrets.token_hex(12),
    )
    return head, job


def _skipped(job: JobRow) -> tuple[str, ...]:
    """Return the stages that a run passes by when it is told to end early."""
    found = job.found
    return ("control",) if isinstance(found, JobResult) and found.roles.control is None else ()


def with_place(service: AppState, head: JobTop, row: JobRow) -> JobTop:
    """Add the reason for which a job waits."""
    placed = head.job.model_copy(update={"queue": service.queue.place(row)})
    return replace(head, job=placed)


def show(  # noqa: PLR0917 - what every page has, in the order in which it comes
    request: Request, service: AppState, caller: Principal, job_id: str, tab: str, template: str, **given: Any
) -> HTMLResponse:
    """Render one of a job's pages."""
    with service.read(caller) as session:
        head, row = read_head(session, job_id)
    head = with_place(service, head, row)
    there = _addresses(request.app)
    head = replace(head, tabs=tuple(one for one in head.tabs if one.path.replace(job_id, "{job_id}") in there))
    part = "".join(f": {one.title.lower()}" for one in head.tabs if one.name == tab != "overview")
    return render(
        request, template, title=f"{_standing(head.job)} {head.job.name}{part}",
        current="jobs", head=head, job=head.job, tab=tab, there=there, **given,
    )  # fmt: skip


def _standing(job: Job) -> str:
    """Return what a browser's tab tells first: the progress of a job that runs, or the symbol of its state."""
    return words.share(job.progress, 0) if job.state is JobState.RUNNING else words.symbol(job.state)


def _addresses(app: FastAPI) -> frozenset[str]:
    """Return the addresses that the service has, so that no page leads to another that is not there."""
    found: frozenset[str] | None = getattr(app.state, "addresses", None)
    if found is None:
        found = app.state.addresses = frozenset(route.path for route in guarded(app.routes))
    return found


def _epoch(session: Session, job: JobRow) -> EpochPlace | None:
    trained = TRAINED_BY.get(job.stage or "")
    if trained is None or job.state in TERMINAL:
        return None
    role, path = trained
    done = metrics.last_step(session, job.id, SeriesName(role, _LOSS))
    if done is None and job.recovery is not None and job.recovery["job_id"] != job.id:  # another job has counted so far
        return None
    number, planned = (done or 0) + 1, at_path(job.spec, path)
    return EpochPlace(role, number if planned is None else min(number, planned), planned)


def at_path(document: Mapping[str, Any], path: str) -> Any:
    """Return what stands in a document at a dotted path; None where nothing does."""
    value: Any = document
    for part in path.split("."):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            return None
    return value


def _actions(job: JobRow, stages: Sequence[StageStep]) -> JobActions:
    state, here = job.state, job.deleted_at is None
    return JobActions(
        stop=state in _STOPPABLE and job.best is not None and not job.finish_early and trains_yet(stages),
        pause=state in {JobState.QUEUED, JobState.RUNNING},
        resume=state in {JobState.PAUSED, JobState.PAUSING},
        cancel=state not in TERMINAL and state is not JobState.CANCELLING,
        retry=here and state in TERMINAL and state is not JobState.SUCCEEDED,
        extend=here and state is JobState.SUCCEEDED and (job.recovery or {}).get("stage") == ENDED,
        delete=here and state in TERMINAL and not job.keep,
        restore=not here,
    )


_TABS = (
    ("overview", "Overview", "", ()),
    ("charts", "Charts", "/charts", ("distill",)),
    ("health", "Health", "/health", ("distill",)),
    ("evaluation", "Evaluation", "/evaluation", ()),
    ("samples", "Samples", "/samples", ("distill",)),
    ("mistakes", "Mistakes", "/mistakes", ("distill", "evaluate")),
    ("review", "Review", "/review", ("review",)),
    ("files", "Files", "/files", ()),
    ("try", "Try it", "/try", ("distill",)),
    ("log", "Log", "/log", ()),
    ("spec", "Spec", "/spec", ()),
)


def _tabs(job: JobRow, task: str) -> tuple[JobTab, ...]:
    kinds = {task, *(("review",) if (job.spec.get("pseudo_labels") or {}).get("review", "none") != "none" else ())}
    shown = [one for one in _TABS if not one[3] or kinds & set(one[3])]
    return tuple(JobTab(name, title, f"/jobs/{job.id}{path}") for name, title, path, _ in shown)
