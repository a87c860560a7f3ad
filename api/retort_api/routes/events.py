"""Follow a job: its events, the server-sent stream of them, its metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from retort.access import Principal, Scope
from retort.constants import Role
from retort.db import events, jobs, metrics
from retort.states import TERMINAL, JobState

from retort_api.deps import AppState, Caller, JobId, Router, Serving
from retort_api.errors import NO_CONTENT, documented
from retort_api.schemas.jobs import Attempts, Event, EventPage, Metrics, Series
from retort_api.streams import EventStream

router = Router("following")

_LARGEST = 2**53 - 1
After = Annotated[int, Query(ge=0, le=_LARGEST, description="Only events with a greater `seq`.")]


@router.readable(
    "/v1/jobs/{job_id}/events",
    scope=Scope.JOBS_READ,
    response_model=EventPage,
    responses=documented("job_not_found", "bad_parameter", "database_unavailable"),
)
def list_events(
    service: Serving, caller: Caller, job_id: JobId, after: After = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> EventPage:
    """List what happened to a job, oldest first."""
    with service.read(caller) as session:
        jobs.get(session, job_id)
        rows = events.list_after(session, job_id, after, limit + 1)
    shown = tuple(Event.of(row) for row in rows[:limit])
    return EventPage(data=shown, next_after=shown[-1].seq if shown else after, has_more=len(rows) > limit)


class NothingFollows(Exception):
    """The job has ended, and the client has received all of its events."""


async def _event_stream(
    service: Serving,
    caller: Caller,
    job_id: JobId,
    after: After = 0,
    last_event_id: Annotated[
        str, Header(description="`id` of the last event received; wins over `after`.", pattern="^[0-9]{0,15}$")
    ] = "",
) -> AsyncIterator[EventStream]:
    after = int(last_event_id) if last_event_id else after
    state, last_seq = await run_sync(_head, service, caller, job_id)
    if state in TERMINAL and after >= last_seq:
        raise NothingFollows
    with service.streams.admitted(caller.key_id):
        yield EventStream(service.streams, job_id, after)


def _head(service: AppState, caller: Principal, job_id: str) -> tuple[JobState, int]:
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        return job.state, job.last_seq


@router.get(
    "/v1/jobs/{job_id}/stream",
    scope=Scope.JOBS_READ,
    response_class=EventSourceResponse,
    responses={
        NO_CONTENT: {"description": "The job has ended and its last event was received: nothing follows."},
        **documented("job_not_found", "too_many_streams", "bad_parameter", "database_unavailable"),
    },
)
async def stream_events(
    service: Serving, follower: Annotated[EventStream, Depends(_event_stream)]
) -> AsyncIterator[ServerSentEvent]:
    """Stream events as they happen, as server-sent events: `id` is the event's `seq`, `event` its type.

    `event: end` means that the job has ended and everything has been sent. A stream that stops without it, after ten
    minutes or because the service restarts, is to be opened again with `Last-Event-ID`; one that is opened again behind
    the last event of an ended job is answered by 204, upon which browsers stop.
    """
    with service.metrics.streams.track_inprogress():
        async for message in follower.messages():
            yield message


@router.readable(
    "/v1/jobs/{job_id}/attempts",
    scope=Scope.JOBS_READ,
    response_model=Attempts,
    responses=documented("job_not_found", "bad_parameter", "database_unavailable"),
)
def list_attempts(service: Serving, caller: Caller, job_id: JobId) -> Attempts:
    """List a job's tries on workers, first to last: where, for how long, and how each ended."""
    with service.read(caller) as session:
        jobs.get(session, job_id)
        found = jobs.attempts_of_job(session, job_id)
    return Attempts.model_validate({"data": found})


@router.readable(
    "/v1/jobs/{job_id}/metrics",
    scope=Scope.JOBS_READ,
    response_model=Metrics,
    responses=documented("job_not_found", "bad_parameter", "database_unavailable"),
)
def get_metrics(
    *,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    role: Annotated[Role | None, Query()] = None,
    name: Annotated[str | None, Query(description="Such as `val/mAP50-95`.", pattern=r"^[ -~]{1,255}$")] = None,
    after_step: Annotated[int | None, Query(ge=-1, le=_LARGEST, description="Only later steps.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Points per curve.")] = 10_000,
) -> Metrics:
    """Show a job's curves; where several attempts measured a step, the latest counts."""
    wanted = None if role is None else role.value
    with service.read(caller) as session:
        jobs.get(session, job_id)
        found = metrics.series(session, job_id, role=wanted, name=name, after_step=after_step, limit=limit)
    return Metrics(data=tuple(Series.of(series) for series in found))
