"""Routes of job actions: cancel, stop, pause, resume, retry, clone, extend, change."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from retort.access import Principal, Scope
from retort.dataset_ref import DatasetRef
from retort.db import Session, datasets, jobs, model_registry, reruns
from retort.db.idempotency import IdempotencyKey as ClientKey
from retort.db.session import database_now
from retort.errors import FieldProblem, SpecError
from retort.model_ref import ModelRef
from retort.spec.references import complete
from retort.states import JobState

from retort_api import http
from retort_api.deps import IDEMPOTENCY_KEY, AppState, Caller, JobId, Router, Serving
from retort_api.errors import ACCEPTED, OK, documented
from retort_api.http import JSON, read_patch
from retort_api.routes.jobs import HEADERS, SUBMITTED_HEADERS, read_job, submitted_response
from retort_api.schemas.jobs import Change, Extend, Job
from retort_api.spec_validation import Registry, Rights, admit
from retort_api.terms import on_behalf, refuse_priority

router = Router("control")

IdempotencyKey = Annotated[str | None, Header(pattern=IDEMPOTENCY_KEY)]
_REFUSALS = ("job_not_found", "bad_parameter", "database_unavailable")
_BODY = {"required": False, "content": {JSON: {"schema": {"type": "object"}}}}


def _answers(done: str, asked: str | None, *refusals: str) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {OK: {"model": Job, "description": done, "headers": HEADERS}}
    if asked is not None:
        found[ACCEPTED] = {"model": Job, "description": asked, "headers": HEADERS}
    return {**found, **documented(*refusals, *_REFUSALS)}


@router.post(
    "/v1/jobs/{job_id}/cancel",
    scope=Scope.JOBS_WRITE,
    response_model=Job,
    responses=_answers("The job is cancelled.", "The run has been asked to stop.", "job_already_finished"),
)
def cancel_job(service: Serving, caller: Caller, job_id: JobId, response: Response) -> Job:
    """Cancel a job. Asking again is harmless; what the run has published stays."""
    return _apply(service, caller, job_id, response, jobs.cancel, done={JobState.CANCELLED})


@router.post(
    "/v1/jobs/{job_id}/pause", scope=Scope.JOBS_WRITE,
    response_model=Job,
    responses=_answers(
        "The job is paused.", "The run has been asked to stop.", "job_already_finished", "wrong_state"
    ),
)  # fmt: skip
def pause_job(service: Serving, caller: Caller, job_id: JobId, response: Response) -> Job:
    """Pause a job: it frees its worker, and goes on from its last whole epoch when it is resumed."""
    return _apply(service, caller, job_id, response, jobs.pause, done={JobState.PAUSED})


@router.post(
    "/v1/jobs/{job_id}/resume",
    scope=Scope.JOBS_WRITE,
    response_model=Job,
    responses=_answers("The job is queued, or runs.", None, "job_already_finished", "wrong_state"),
)
def resume_job(service: Serving, caller: Caller, job_id: JobId, response: Response) -> Job:
    """Resume a paused job. Resuming one that waits or runs is harmless."""
    job = _apply(service, caller, job_id, response, jobs.resume, done=set(JobState))
    service.notifier.notify(job_id)
    return job


@router.post(
    "/v1/jobs/{job_id}/stop",
    scope=Scope.JOBS_WRITE,
    response_model=Job,
    responses={
        ACCEPTED: {"model": Job, "description": "The training is about to end.", "headers": HEADERS},
        **documented("job_already_finished", "wrong_state", *_REFUSALS),
    },
    status_code=ACCEPTED,
)
def stop_job(service: Serving, caller: Caller, job_id: JobId, response: Response) -> Job:
    """Finish early: training ends, and the best network so far is evaluated and published."""
    job = _apply(service, caller, job_id, response, jobs.finish_early, done=())
    if job.state is JobState.QUEUED:
        service.notifier.notify(job_id)
    return job


@router.post(
    "/v1/jobs/{job_id}/retry",
    scope=Scope.JOBS_WRITE,
    status_code=ACCEPTED,
    response_model=Job,
    responses={
        ACCEPTED: {"description": "A new job is queued.", "headers": SUBMITTED_HEADERS},
        **documented("wrong_state", "bad_spec", "idempotency_key_reused", *_REFUSALS),
    },
)
def retry_job(
    service: Serving, caller: Caller, job_id: JobId, response: Response, idempotency_key: IdempotencyKey = None
) -> Job:
    """Queue a new job that goes on where one that failed, was cancelled or expired has ended."""
    with service.begin(caller) as session:
        submitted = reruns.retry(session, job_id, rerun_terms(service, caller, session, job_id, idempotency_key))
    return submitted_response(service, caller, submitted, response)


@router.post(
    "/v1/jobs/{job_id}/clone", scope=Scope.JOBS_WRITE,
    status_code=ACCEPTED,
    response_model=Job,
    openapi_extra={"requestBody": _BODY},
    responses={
        ACCEPTED: {"description": "A new job is queued.", "headers": SUBMITTED_HEADERS},
        **documented(
            "unreadable_body", "body_too_large", "unsupported_media_type", "bad_spec", "idempotency_key_reused",
            *_REFUSALS,
        ),
    },
)  # fmt: skip
def clone_job(
    *,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    response: Response,
    patch: Annotated[Any, Depends(read_patch)],
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Queue a new job with this one's spec, from the beginning.

    A body changes the spec, as a JSON merge patch (RFC 7396): `{"training": {"epochs": 50}}`. The stored spec has its
    recipe written out, so naming another recipe here changes nothing but the name.
    """
    if not isinstance(patch, dict):
        raise SpecError([FieldProblem("$", "must be a mapping", 'such as {"training": {"epochs": 50}}')])
    with service.read(caller) as session:
        project = jobs.get(session, job_id).project
    registry = service.registry(project)
    patch = complete(patch, registry.digests, registry.datasets)
    with service.begin(caller) as session:
        terms = rerun_terms(service, caller, session, job_id, idempotency_key)
        submitted = reruns.clone(session, job_id, patch, terms)
    return submitted_response(service, caller, submitted, response)


@router.post(
    "/v1/jobs/{job_id}/extend", scope=Scope.JOBS_WRITE,
    status_code=ACCEPTED,
    response_model=Job,
    responses={
        ACCEPTED: {"description": "A new job is queued.", "headers": SUBMITTED_HEADERS},
        **documented(
            "forbidden", "unreadable_body", "body_too_large", "unsupported_media_type", "wrong_state", "cannot_extend",
            "bad_spec", "idempotency_key_reused", *_REFUSALS,
        ),
    },
)  # fmt: skip
def extend_job(
    *,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    more: Extend,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Queue a new job that adds epochs to one that has succeeded, from its last state.

    Student and control go on alike: the learning rate rises to what it was as many epochs before its end, and falls as
    it did. The result is not that of as many epochs in one training, and says so.
    """
    if more.priority is not None:
        refuse_priority(caller, service.settings, more.priority)
    wanted = reruns.MoreEpochs(more.epochs, more.name, more.labels, more.priority)
    with service.begin(caller) as session:
        terms = rerun_terms(service, caller, session, job_id, idempotency_key)
        submitted = reruns.extend(session, job_id, wanted, terms)
    return submitted_response(service, caller, submitted, response)


@router.patch(
    "/v1/jobs/{job_id}",
    scope=Scope.JOBS_WRITE,
    response_model=Job,
    responses=_answers(
        "The job as it is now.",
        None,
        "forbidden",
        "unreadable_body",
        "job_already_finished",
        "version_conflict",
        "wrong_state",
    ),
)
def change_job(
    *,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    change: Change,
    response: Response,
    if_match: Annotated[str | None, Header(description="The ETag of the job as you have seen it.")] = None,
) -> Job:
    """Rename or label a job, or give it another priority: it counts when jobs are claimed, and interrupts none.

    `keep` pins it: retention passes it by.

    With `If-Match` nothing changes if somebody else has changed the job since.
    """
    if change.priority is not None:
        refuse_priority(caller, service.settings, change.priority)
    wanted = jobs.JobChange(change.name, change.labels, change.priority, change.keep)
    with service.begin(caller) as session:
        jobs.change(session, job_id, wanted, matches=partial(http.matches, if_match))
    return read_job(service, caller, job_id, response)


def _apply(
    service: AppState,
    caller: Principal,
    job_id: str,
    response: Response,
    what: Callable[..., JobState],
    *,
    done: Collection[JobState],
) -> Job:
    """Write a wish down; 202 says that the worker has yet to learn of it."""
    with service.begin(caller) as session:
        state = what(session, job_id, now=database_now(session), actor="client")
    response.status_code = OK if state in done else ACCEPTED
    return read_job(service, caller, job_id, response)


def rerun_terms(
    service: AppState, caller: Principal, session: Session, job_id: str, key: str | None
) -> reruns.RerunTerms:
    """Return on which terms a new job is made from an old one, in its project."""
    service.disk.check()
    settings, project = service.settings, jobs.get(session, job_id).project

    def digests(name: str) -> list[str]:
        return [model.sha256 for model in model_registry.versions(session, name, project=project)]

    def classes(reference: ModelRef) -> list[str] | None:
        found = model_registry.find(session, reference, project=project)
        return None if found is None else found.classes

    def brought(name: str) -> list[str]:
        return datasets.digests(session, project, name)

    def classes_of_data(reference: DatasetRef) -> tuple[str, ...] | None:
        return datasets.classes(session, reference, project)

    registry = Registry(digests, classes, brought, classes_of_data)
    return reruns.RerunTerms(
        now=database_now(session), retries=settings.max_retries,
        admit=lambda spec: admit(spec, Rights.of(caller, settings), registry),
        key=None if key is None else ClientKey(key, caller.owner, keep_s=settings.keep_keys_s),
        behalf=on_behalf(caller, settings),
    )  # fmt: skip
