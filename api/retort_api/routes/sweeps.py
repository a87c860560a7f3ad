"""Sweeps: submit, look, list, cancel, and take the best."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse
from retort.access import Principal, Scope
from retort.data import ceilings
from retort.db import sweeps
from retort.db.models import SWEEP_PREFIX
from retort.db.session import database_now
from retort.errors import FieldProblem, SpecError
from retort.settings import Settings
from retort.spec import SweepSpec, parse_sweep
from retort.spec.references import complete
from retort.states import SweepState
from retort.sweeps.search_space import check

from retort_api.deps import AppState, Caller, Router, Serving, SweepId
from retort_api.errors import ACCEPTED, OK, documented
from retort_api.http import JSON, YAML, Body, Cursor, Deleted, Limit, next_cursor, parse_cursor, read_body, trash_query
from retort_api.schemas.sweeps import Sweep, SweepChange, SweepPage, SweepSummary, sweep_path
from retort_api.spec_validation import Registry, Rights, admit, looked_at
from retort_api.terms import Terms

router = Router("sweeps")

_SPEC = {"schema": {"$ref": "#/components/schemas/SweepSpec"}}
_TEXT = {"schema": {"type": "string"}}
_HEADERS = {
    "Location": {"description": "Address of the sweep.", **_TEXT},
    "Idempotency-Replayed": {
        "description": "`true` when the key was known: the sweep is the earlier one.", **_TEXT
    },
}  # fmt: skip
_REFUSALS = ("sweep_not_found", "bad_parameter", "database_unavailable")


@router.post(
    "/v1/sweeps", scope=Scope.JOBS_WRITE,
    status_code=ACCEPTED,
    response_model=Sweep,
    openapi_extra={"requestBody": {"required": True, "content": {JSON: _SPEC, YAML: _SPEC}}},
    responses={
        ACCEPTED: {"headers": _HEADERS},
        **documented(
            "forbidden", "project_not_found", "unreadable_body", "body_too_large", "unsupported_media_type", "bad_spec",
            "bad_parameter",
            "idempotency_key_reused", "database_unavailable",
        ),
    },
)  # fmt: skip
def submit_sweep(
    *,
    service: Serving,
    response: Response,
    body: Annotated[Body, Depends(read_body)],
    terms: Terms,
) -> Sweep:
    """Submit a sweep: many jobs that differ in some fields, and the search for the best of them.

    Every combination of a grid, and the extremes of ranges, are checked at once. The workers make the jobs, as many at
    a time as `concurrency` says.
    """
    registry = service.registry(terms.project)
    sweep = parse_sweep(complete(body.document(), registry.digests, registry.datasets))
    _admit(sweep, Rights.of(terms.caller, service.settings), registry)
    with service.begin(terms.caller) as session:
        submitted = sweeps.submit(
            session, sweep, now=database_now(session), retries=service.settings.max_retries,
            project=terms.project, owner=terms.owner, priority=terms.priority, key=terms.key(sweep),
        )  # fmt: skip
    response.headers["Location"] = sweep_path(submitted.sweep_id)
    if not submitted.created:
        response.headers["Idempotency-Replayed"] = "true"
    return _look(service, terms.caller, submitted.sweep_id)


def _admit(sweep: SweepSpec, rights: Rights, registry: Registry) -> None:
    if problems := _beyond(sweep, rights.settings):
        raise SpecError(problems)
    for spec in {looked_at(spec, rights): spec for spec in check(sweep)}.values():
        try:
            admit(spec, rights, registry)
        except SpecError as error:
            problems = [FieldProblem(_place(sweep, one.path), one.message, one.hint) for one in error.problems]
            raise SpecError(problems) from error


def _beyond(sweep: SweepSpec, settings: Settings) -> list[FieldProblem]:
    """Return where the sweep itself is larger than the operator allows."""
    problems = ceilings.exceeded(sweep.model_dump(mode="json", exclude={"base"}), settings)
    if not problems and sweep.num_trials > settings.max_trials:
        most = f"this service allows {settings.max_trials} at most (RETORT_MAX_TRIALS)"
        problems.append(FieldProblem("parameters", f"make {sweep.num_trials} trials, and {most}", "fewer values"))
    return problems


def _place(sweep: SweepSpec, path: str) -> str:
    return f"{'parameters' if path in sweep.parameters else 'base'}.{path}"


@router.readable(
    "/v1/sweeps",
    scope=Scope.JOBS_READ,
    response_model=SweepPage,
    responses=documented("bad_parameter", "database_unavailable"),
)
def list_sweeps(
    *,
    service: Serving,
    caller: Caller,
    response: Response,
    deleted: Deleted = False,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> SweepPage:
    """List sweeps, newest first."""
    with service.read(caller) as session:
        found = sweeps.page(session, after=parse_cursor(cursor, SWEEP_PREFIX), limit=limit + 1, deleted=deleted)
        ids = [row.id for row in found[:limit]]
        counts, bests = sweeps.counts(session, ids), sweeps.bests(session, ids)
    shown = tuple(SweepSummary.of(row, counts[row.id], bests.get(row.id)) for row in found[:limit])
    cursor = next_cursor(response, found, limit, prefix=SWEEP_PREFIX, path="/v1/sweeps", query=trash_query(deleted))
    return SweepPage(data=shown, next_cursor=cursor, has_more=cursor is not None)


@router.readable("/v1/sweeps/{sweep_id}", scope=Scope.JOBS_READ, response_model=Sweep, responses=documented(*_REFUSALS))
def get_sweep(service: Serving, caller: Caller, sweep_id: SweepId) -> Sweep:
    """Show where a sweep stands: its trials with their parameters and values, and the best so far."""
    return _look(service, caller, sweep_id)


@router.patch(
    "/v1/sweeps/{sweep_id}",
    scope=Scope.JOBS_WRITE,
    response_model=Sweep,
    responses=documented(
        "forbidden", "unreadable_body", "body_too_large", "unsupported_media_type", "wrong_state", *_REFUSALS
    ),
)
def change_sweep(service: Serving, caller: Caller, sweep_id: SweepId, change: SweepChange) -> Sweep:
    """Pin a sweep, so that retention passes it and its jobs by, or unpin it."""
    with service.begin(caller) as session:
        sweeps.keep(session, sweep_id, keep=change.keep)
    return _look(service, caller, sweep_id)


@router.post(
    "/v1/sweeps/{sweep_id}/cancel",
    scope=Scope.JOBS_WRITE,
    response_model=Sweep,
    responses={
        OK: {"model": Sweep, "description": "The sweep is cancelled."},
        ACCEPTED: {"model": Sweep, "description": "Its jobs have been asked to stop."},
        **documented("sweep_already_finished", *_REFUSALS),
    },
)
def cancel_sweep(service: Serving, caller: Caller, sweep_id: SweepId, response: Response) -> Sweep:
    """Cancel a sweep and the jobs of it that have not ended. Asking again is harmless."""
    with service.begin(caller) as session:
        state = sweeps.cancel(session, sweep_id, now=database_now(session), actor="client")
    response.status_code = OK if state is SweepState.CANCELLED else ACCEPTED
    return _look(service, caller, sweep_id)


@router.readable(
    "/v1/sweeps/{sweep_id}/best",
    scope=Scope.JOBS_READ,
    response_class=JSONResponse,
    responses={
        OK: {
            "description": "A job spec, ready to submit.",
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/JobSpec"}}},
        },
        **documented("no_trial_succeeded", *_REFUSALS),
    },
)
def get_best_spec(service: Serving, caller: Caller, sweep_id: SweepId) -> Any:
    """Show the whole spec of the best trial so far, ready to submit."""
    with service.read(caller) as session:
        return JSONResponse(sweeps.best_spec(session, sweep_id))


@router.readable(
    "/v1/sweeps/{sweep_id}/report",
    scope=Scope.JOBS_READ,
    response_class=HTMLResponse,
    responses={OK: {"description": "One page."}, **documented(*_REFUSALS)},
)
def get_sweep_report(
    service: Serving,
    caller: Caller,
    sweep_id: SweepId,
    self_contained: Annotated[  # noqa: ARG001 - earlier clients send it
        bool, Query(description="The page needs nothing else in either case.")
    ] = False,
) -> HTMLResponse:
    """Show the sweep as one page without scripts: a table, a plot of the parameters, and the best spec."""
    from retort.sweeps.report import policy, render  # with it come the templates

    with service.read(caller) as session:
        row = sweeps.get(session, sweep_id)
        listed = sweeps.trials(session, sweep_id)
        best = sweeps.bests(session, [sweep_id]).get(sweep_id)
        spec = sweeps.best_spec(session, sweep_id) if best else None
    page = render(Sweep.whole(row, best, listed).model_dump(mode="json"), spec)
    return HTMLResponse(page, headers={"Content-Security-Policy": policy()})


def _look(service: AppState, caller: Principal, sweep_id: str) -> Sweep:
    with service.read(caller) as session:
        row = sweeps.get(session, sweep_id)
        listed = sweeps.trials(session, sweep_id)
        best = sweeps.bests(session, [sweep_id]).get(sweep_id)
    return Sweep.whole(row, best, listed)
