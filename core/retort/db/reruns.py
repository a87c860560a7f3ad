"""Create jobs from old ones: a retry resumes, a clone starts over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from retort.db import jobs, reviews, trash
from retort.db.idempotency import IdempotencyKey
from retort.db.jobs import WrongState
from retort.db.models import JobRow
from retort.spec import AnySpec, digest, merge, parse_spec
from retort.states import TERMINAL, JobState

_HIGHEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """Owner and highest priority of a rerun."""

    owner: str
    max_priority: int = _HIGHEST
    """The other's priority counts up to this."""


_ANEW = "clone makes a job that begins anew"


def retry(
    session: Session,
    job_id: str,
    *,
    now: float,
    retries: int,
    admit: Callable[[AnySpec], tuple[str, ...]],
    key: IdempotencyKey | None = None,
    behalf: OnBehalf | None = None,
) -> jobs.SubmittedJob:
    """Queue a job that resumes a failed, cancelled or expired job.

    *admit* checks that the spec is still allowed, and returns what to warn of; once per idempotency *key*.

    Raises:
        JobNotFound: there is no such job.
        WrongState: it has not ended, or it has succeeded.
        SpecError: the spec is not allowed (any more).
        KeyReused: the key came with another request before.

    """
    parent = trash.lock_job(session, job_id)
    jobs.refuse_deleted(parent)
    if parent.state not in TERMINAL:
        raise WrongState(f"job {job_id} is {parent.state}: it has not ended", hint=f"wait, or cancel it; {_ANEW}")
    if parent.state is JobState.SUCCEEDED:
        raise WrongState(f"job {job_id} has succeeded: there is nothing to go on with", hint=_ANEW)
    submitted = _again(
        session, parent, {}, now=now, retries=retries, admit=admit, key=key, go_on=True,
        behalf=behalf,
    )  # fmt: skip
    if submitted.created:
        reviews.inherit(session, parent.id, submitted.job_id)
    return submitted


def clone(
    session: Session,
    job_id: str,
    patch: Mapping[str, Any],
    *,
    now: float,
    retries: int,
    admit: Callable[[AnySpec], tuple[str, ...]],
    key: IdempotencyKey | None = None,
    behalf: OnBehalf | None = None,
) -> jobs.SubmittedJob:
    """Queue a job with another's spec, changed by *patch* (RFC 7396).

    Raises:
        JobNotFound: there is no such job.
        SpecError: the changed spec is wrong, or not allowed.
        KeyReused: the key came with another request before.

    """
    parent = trash.lock_job(session, job_id)
    jobs.refuse_deleted(parent)
    return _again(
        session, parent, patch, now=now, retries=retries, admit=admit, key=key, go_on=False, behalf=behalf
    )  # fmt: skip


def _again(
    session: Session,
    parent: JobRow,
    patch: Mapping[str, Any],
    *,
    now: float,
    retries: int,
    admit: Callable[[AnySpec], tuple[str, ...]],
    key: IdempotencyKey | None,
    go_on: bool,
    behalf: OnBehalf | None,
) -> jobs.SubmittedJob:
    spec = parse_spec(merge(parent.spec, patch))
    warnings = admit(spec)
    told = f"{'retry' if go_on else 'clone'} {parent.id} {digest(spec)}"
    key = key and replace(key, request_sha256=hashlib.sha256(told.encode()).hexdigest())
    behalf = behalf or OnBehalf(parent.owner)
    return jobs.submit(
        session, spec, now=now, retries=retries, project=parent.project, owner=behalf.owner,
        priority=min(parent.priority, behalf.max_priority), key=key, parent=parent, go_on=go_on, warnings=warnings,
        labels=parent.labels,
    )  # fmt: skip
