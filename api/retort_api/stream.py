"""Catching up with a job and following it live, by one and the same query."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import structlog
from anyio.to_thread import run_sync
from fastapi.sse import ServerSentEvent
from retort.db import Database, events, jobs
from retort.errors import WorldError
from retort.states import TERMINAL, JobState

from retort_api.schemas import Event

BATCH = 200
_log = structlog.get_logger("retort.api")


@dataclass(slots=True)
class Follower:
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
            except WorldError as error:
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
            return [Event.of(row) for row in events.after(session, self.job_id, self.seq, BATCH)], state
