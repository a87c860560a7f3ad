"""Follow a job: its events, the server-sent stream of them, its metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import anyio
import structlog
from anyio.to_thread import run_sync
from fastapi import Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from retort.constants import Role
from retort.db import Database, events, jobs, metrics
from retort.errors import TransientError
from retort.states import TERMINAL, JobState

from retort_api.deps import JobId, Router, Serving
from retort_api.errors import documented
from retort_api.schemas.jobs import Attempts, Event, EventPage, Metrics, Series

BATCH = 200
_log = structlog.get_logger("retort.api")


@dataclass(slots=True)
class EventStream:
    """One reader's place in one job's events. Between looks it holds no connection and no thread."""

    database: Database
    job_id: str
    seq: int
    """Number of the last event sent."""
    stopping: threading.Event
    every_s: float = 0.4
    max_age_s: float = 600.0
    """After this the client is to come back: it may then reach another server."""

    async def messages(self) -> AsyncIterator[ServerSentEvent]:
        """Yield everything after *seq*, then what happens, then ``end``; also ends when the server stops."""
        deadline = time.monotonic() + self.max_age_s
        yield ServerSentEvent(comment=f"events of {self.job_id}", retry=1000)
        while not self.stopping.is_set() and time.monotonic() < deadline:
            try:
                batch, state = await run_sync(self._look)
            except TransientError as error:
                _log.warning("stream_interrupted", job_id=self.job_id, error=error.message)
                return
            for event in batch:
                self.seq = event.seq
                yield ServerSentEvent(id=str(event.seq), event=event.type, data=event)
            if len(batch) == BATCH:
                continue
            if state in TERMINAL:
                yield ServerSentEvent(event="end", data={"state": state.value})
                return
            await anyio.sleep(self.every_s)

    def _look(self) -> tuple[list[Event], JobState]:
        """Return what is new, and the job's state at that same moment."""
        with self.database.read() as session:
            state = jobs.get(session, self.job_id).state
            return [Event.of(row) for row in events.list_after(session, self.job_id, self.seq, BATCH)], state


router = Router("following")

_LARGEST = 2**53 - 1
After = Annotated[int, Query(ge=0, le=_LARGEST, description="Only events with a greater `seq`.")]


@router.readable(
    "/v1/jobs/{job_id}/events",
    response_model=EventPage,
    responses=documented("job_not_found", "bad_parameter", "database_unavailable"),
)
def list_events(
    service: Serving, job_id: JobId, after: After = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> EventPage:
    """List what happened to a job, oldest first."""
    with service.database.read() as session:
        jobs.get(session, job_id)
        rows = events.list_after(session, job_id, after, limit + 1)
    shown = tuple(Event.of(row) for row in rows[:limit])
    return EventPage(data=shown, next_after=shown[-1].seq if shown else after, has_more=len(rows) > limit)


def _event_stream(
    service: Serving,
    job_id: JobId,
    after: After = 0,
    last_event_id: Annotated[
        str, Header(description="`id` of the last event received; wins over `after`.", pattern="^[0-9]{0,15}$")
    ] = "",
) -> EventStream:
    after = int(last_event_id) if last_event_id else after
    with service.database.read() as session:
        jobs.get(session, job_id)
    return EventStream(service.database, job_id, after, service.stopping)


@router.get(
    "/v1/jobs/{job_id}/stream",
    response_class=EventSourceResponse,
    responses=documented("job_not_found", "bad_parameter", "database_unavailable"),
)
async def stream_events(
    service: Serving, follower: Annotated[EventStream, Depends(_event_stream)]
) -> AsyncIterator[ServerSentEvent]:
    """Stream events as they happen, as server-sent events: `id` is the event's `seq`, `event` its type.

    `event: end` means that the job has ended and everything has been sent. A stream that stops without it, after ten
    minutes or because the service restarts, is to be opened again with `Last-Event-ID`.
    """
    with service.metrics.streams.track_inprogress():
        async for message in follower.messages():
            yield message


@router.readable(
    "/v1/jobs/{job_id}/attempts",
    response_model=Attempts,
    responses=documented("job_not_found", "bad_parameter", "database_unavailable"),
)
def list_attempts(service: Serving, job_id: JobId) -> Attempts:
    """List a job's tries on workers, first to last: where, for how long, and how each ended."""
    with service.database.read() as session:
        jobs.get(session, job_id)
        found = jobs.attempts_of_job(session, job_id)
    return Attempts.model_validate({"data": found})


@router.readable(
    "/v1/jobs/{job_id}/metrics",
    response_model=Metrics,
    responses=documented("job_not_found", "bad_parameter", "database_unavailable"),
)
def get_metrics(
    *,
    service: Serving,
    job_id: JobId,
    role: Annotated[Role | None, Query()] = None,
    name: Annotated[str | None, Query(description="Such as `val/mAP50-95`.", pattern=r"^[ -~]{1,255}$")] = None,
    after_step: Annotated[int | None, Query(ge=-1, le=_LARGEST, description="Only later steps.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Points per curve.")] = 10_000,
) -> Metrics:
    """Show a job's curves; where several attempts measured a step, the latest counts."""
    wanted = None if role is None else role.value
    with service.database.read() as session:
        jobs.get(session, job_id)
        found = metrics.series(session, job_id, role=wanted, name=name, after_step=after_step, limit=limit)
    return Metrics(data=tuple(Series.of(series) for series in found))
