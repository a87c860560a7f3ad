"""Create jobs from old ones: retries resume, extensions add epochs, clones start over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.orm import Session

from retort.db import jobs, reviews, trash
from retort.db.idempotency import IdempotencyKey
from retort.db.jobs import WrongState
from retort.db.models import JobRow
from retort.errors import CannotExtend
from retort.protocol.workdir import ENDED
from retort.spec import AnySpec, digest, merge, parse_spec
from retort.spec.arms import SOURCES
from retort.states import TERMINAL, JobState

_HIGHEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """Owner and highest priority of a rerun."""

    owner: str
    max_priority: int = _HIGHEST
    """The other's priority counts up to this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunTerms:
    """Terms on which any job is made from an old one."""

    now: float
    retries: int
    """How often failures may be retried."""
    admit: Callable[[AnySpec], tuple[str, ...]]
    """Checks that the spec is (still) allowed, and returns what to warn of; once per idempotency key."""
    key: IdempotencyKey | None = None
    behalf: OnBehalf | None = None
    """None leaves the new job with the owner of the old one."""


@dataclass(frozen=True, slots=True)
class MoreEpochs:
    """Request to add epochs to a job."""

    epochs: int
    """To add."""
    name: str | None = None
    """None is the name of the job that is extended."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Beside those of the job that is extended."""
    priority: int | None = None
    """None is the priority of the job that is extended."""

    @property
    def told(self) -> str:
        """The request as text, to distinguish requests."""
        return json.dumps([self.epochs, self.name, dict(self.labels), self.priority], sort_keys=True)


_ANEW = "clone makes a job that begins anew"


def retry(session: Session, job_id: str, terms: RerunTerms) -> jobs.SubmittedJob:
    """Queue a job that resumes a failed, cancelled or expired job.

    Raises:
        JobNotFound: there is no such job.
        WrongState: it has not ended, or it has succeeded.
        SpecError: the spec is not allowed (any more).
        KeyReused: the key came with another request before.

    """
    parent = _locked(session, job_id)
    if parent.state not in TERMINAL:
        raise WrongState(f"job {job_id} is {parent.state}: it has not ended", hint=f"wait, or cancel it; {_ANEW}")
    if parent.state is JobState.SUCCEEDED:
        raise WrongState(f"job {job_id} has succeeded: there is nothing to go on with", hint=_ANEW)
    return _again(session, parent, parse_spec(parent.spec), terms, told="retry", go_on=True)


def clone(session: Session, job_id: str, patch: Mapping[str, Any], terms: RerunTerms) -> jobs.SubmittedJob:
    """Queue a job with another's spec, changed by *patch* (RFC 7396).

    Raises:
        JobNotFound: there is no such job.
        SpecError: the changed spec is wrong, or not allowed.
        KeyReused: the key came with another request before.

    """
    parent = _locked(session, job_id)
    spec = parse_spec(merge(parent.spec, patch))
    return _again(session, parent, spec, terms, told="clone")


def clone_as(
    session: Session, job_id: str, spec: AnySpec, terms: RerunTerms, *, labels: Mapping[str, str], priority: int
) -> jobs.SubmittedJob:  # fmt: skip
    """Queue a job with a *spec* that somebody made of another job's.

    Raises:
        JobNotFound: there is no such job.
        SpecError: the spec is not allowed.
        KeyReused: the key came with another request before.

    """
    parent = _locked(session, job_id)
    return _again(session, parent, spec, terms, told="clone", labels=labels, priority=priority)


def extend(session: Session, job_id: str, wanted: MoreEpochs, terms: RerunTerms) -> jobs.SubmittedJob:
    """Queue a job that adds epochs to one that has succeeded.

    It continues from the last state.

    Raises:
        JobNotFound: there is no such job.
        WrongState: it has not succeeded.
        CannotExtend: epochs cannot be added to what it has trained.
        SpecError: the spec with more epochs is not allowed.
        KeyReused: the key came with another request before.

    """
    parent = _locked(session, job_id)
    _refuse_unextendable(parent)
    before = (parent.adjustments or {}).get("extension")
    ended = parent.spec["training"]["epochs"]
    extension = {
        "job": parent.id,
        "name": parent.spec["name"] if before is None else before["name"],
        "epochs": [*(() if before is None else before["epochs"]), ended],
    }
    patch: dict[str, Any] = {"training": {"epochs": ended + wanted.epochs}, "arms": []}
    if wanted.name is not None:
        patch["name"] = wanted.name
    spec = parse_spec(merge(parent.spec, patch))
    return _again(
        session, parent, spec, terms, told=f"extend {wanted.told}", go_on=True, extension=extension,
        labels={**parent.labels, **wanted.labels}, priority=wanted.priority,
        warnings=(_NOT_THE_SAME.format(job=parent.id, ended=ended, more=wanted.epochs),),
    )  # fmt: skip


_NOT_THE_SAME = (
    "this job adds {more} epochs to job {job}, which has ended after {ended}: the learning rate rises once more, so "
    "the result is not that of as many epochs in one training"
)
_MORE = "clone it with more epochs, which trains from the beginning"


def _refuse_unextendable(parent: JobRow) -> None:
    """Refuse a job whose trainings cannot honestly be given more epochs."""
    if parent.state is not JobState.SUCCEEDED:
        hint = "retry goes on with it" if parent.state in TERMINAL else "wait until it has succeeded"
        raise WrongState(f"job {parent.id} is {parent.state}: only a job that has succeeded is extended", hint=hint)
    why = _unextendable(parent.spec, parent.result or {})
    if why is not None:
        raise CannotExtend(f"job {parent.id} cannot be extended: {why}", hint=_MORE)
    saved = parent.recovery
    if saved is None or saved["stage"] != ENDED or saved["job_id"] != parent.id:
        message = f"the last state of job {parent.id} is not kept (any more)"
        raise CannotExtend(message, hint=f"{_MORE}; RETORT_KEEP_LAST_STATE_S and pinning say for how long it is kept")


def _unextendable(spec: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    """Return why more epochs would not be comparable, if so."""
    if spec.get("task", "distill") != "distill":
        return "it is not a distillation"
    training, ran = spec["training"], result.get("training") or {}
    if training["seeds"] > 1 or set(spec["arms"]) - set(SOURCES):
        return "it has further seeds or arms, whose last states are not kept"
    if training["time"] is not None:
        return "training.time bounds it, which would end what is added at once"
    if ran.get("epochs") != ran.get("planned_epochs"):
        return f"its training ended after epoch {ran['epochs']} of {ran['planned_epochs']}"
    if spec["control"] and (result.get("control_dropped") or not (result.get("roles") or {}).get("control")):
        return "no control was trained that could be extended with the student"
    return None


def _locked(session: Session, job_id: str) -> JobRow:
    parent = trash.lock_job(session, job_id)
    jobs.refuse_deleted(parent)
    return parent


def _again(
    session: Session,
    parent: JobRow,
    spec: AnySpec,
    terms: RerunTerms,
    *,
    told: str,
    priority: int | None = None,
    warnings: tuple[str, ...] = (),
    go_on: bool = False,
    **about: Any,
) -> jobs.SubmittedJob:
    """Submit *spec*, made of *parent*'s; *about* are more fields of ``jobs.Submission``."""
    warnings = (*warnings, *terms.admit(spec))
    request = f"{told} {parent.id} {digest(spec)}"
    key = terms.key and replace(terms.key, request_sha256=hashlib.sha256(request.encode()).hexdigest())
    behalf = terms.behalf or OnBehalf(parent.owner)
    wanted = parent.priority if priority is None else priority
    submitted = jobs.submit(
        session, spec, now=terms.now, retries=terms.retries, project=parent.project, owner=behalf.owner,
        priority=min(wanted, behalf.max_priority), key=key, parent=parent, go_on=go_on, warnings=warnings,
        **{"labels": parent.labels, **about},
    )  # fmt: skip
    if go_on and submitted.created:
        reviews.inherit(session, parent.id, submitted.job_id)
    return submitted
