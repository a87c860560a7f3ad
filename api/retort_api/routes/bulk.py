"""Act on many jobs in one request, with an answer for each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Header
from retort.access import Principal, Scope
from retort.db import Session, job_list, jobs, reruns, trash
from retort.db.job_list import JobFilter, Place
from retort.db.session import database_now
from retort.errors import RetortError, TransientError
from retort.states import TERMINAL, JobState

from retort_api.deps import IDEMPOTENCY_KEY, AppState, Caller, Router, Serving, is_job_id
from retort_api.errors import documented
from retort_api.routes.job_actions import rerun_terms
from retort_api.schemas.bulk import MOST, Bulk, BulkAnswer, BulkOutcome, WantedJobs

router = Router("control")

_OPEN = frozenset(JobState) - TERMINAL - {JobState.CANCELLING}
_ACTED_ON: dict[str, frozenset[JobState]] = {
    "cancel": _OPEN,
    "retry": TERMINAL - {JobState.SUCCEEDED},
    "delete": TERMINAL,
}
"""Where the action changes something."""


@router.post(
    "/v1/bulk",
    scope=Scope.JOBS_WRITE,
    response_model=BulkAnswer,
    responses=documented("unreadable_body", "bad_parameter", "database_unavailable"),
)
def act_on_jobs(
    service: Serving,
    caller: Caller,
    bulk: Bulk,
    idempotency_key: Annotated[str | None, Header(pattern=IDEMPOTENCY_KEY)] = None,
) -> BulkAnswer:
    """Cancel, retry or delete many jobs: each is answered for itself, and one that refuses hinders no other.

    A filter takes the oldest hundred jobs that can be acted on; `next_after` goes on behind them. With an
    `Idempotency-Key` a repeated request makes no second retry of any job.
    """
    ids, next_after = _chosen(service, caller, bulk)
    data = tuple(_act(service, caller, bulk.action, job_id, idempotency_key) for job_id in ids)
    if any(outcome.new_id for outcome in data):
        service.notifier.notify(next(outcome.new_id for outcome in data if outcome.new_id))
    return BulkAnswer(data=data, next_after=next_after)


def _chosen(service: AppState, caller: Principal, bulk: Bulk) -> tuple[Sequence[str], str | None]:
    if bulk.filter is None:
        return tuple(dict.fromkeys(bulk.ids or ())), None
    after = None if bulk.after is None else Place(bulk.after, bulk.after)
    wanted = _filter(bulk.filter, _ACTED_ON[bulk.action])
    if not wanted.states:
        return (), None
    with service.read(caller) as session:
        found = job_list.page(session, wanted, order="created", after=after, limit=MOST + 1)
    return [job.id for job in found[:MOST]], found[MOST - 1].id if len(found) > MOST else None


def _filter(wanted: WantedJobs, among: frozenset[JobState]) -> JobFilter:
    """Return the filter, narrowed to the states *among* which the action changes something."""
    return JobFilter(
        states=tuple(among.intersection(wanted.state) if wanted.state else among),
        name=wanted.name, owner=wanted.owner, labels=tuple(wanted.labels.items()), student=wanted.student,
        teacher=wanted.teacher, dataset=wanted.dataset, recipe=wanted.recipe, sweep_id=wanted.sweep, text=wanted.q,
        created_from=_seconds(wanted.created_after), created_before=_seconds(wanted.created_before),
    )  # fmt: skip


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _act(service: AppState, caller: Principal, action: str, job_id: str, key: str | None) -> BulkOutcome:
    """Do it to one job, in a transaction of its own."""
    about: dict[str, Any] = {"id": job_id, "state": None, "new_id": None, "code": None, "detail": None}
    try:
        if not is_job_id(job_id):
            raise jobs.JobNotFound(f"there is no job {job_id}")
        with service.begin(caller) as session:
            now = database_now(session)
            if action == "cancel":
                about["state"] = jobs.cancel(session, job_id, now=now, actor="client")
            elif action == "delete":
                trash.delete_job(session, job_id, now=now)
                about["state"] = jobs.get(session, job_id).state
            else:
                about |= {"new_id": _retry(service, caller, session, job_id, key), "state": JobState.QUEUED}
    except TransientError:
        raise
    except RetortError as error:
        return BulkOutcome.model_validate({**about, "done": False, "code": error.code, "detail": error.message})
    return BulkOutcome.model_validate({**about, "done": True})


def _retry(service: AppState, caller: Principal, session: Session, job_id: str, key: str | None) -> str:
    """Queue a job that goes on where another has ended, once for each job and key; return its id."""
    own = key and hashlib.sha256(f"{key} {job_id}".encode()).hexdigest()
    return reruns.retry(session, job_id, rerun_terms(service, caller, session, job_id, own)).job_id
