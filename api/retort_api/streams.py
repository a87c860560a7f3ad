"""Share one look at the database among all who follow jobs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.to_thread import run_sync
from fastapi.sse import ServerSentEvent
from retort.db import Database, events, jobs
from retort.errors import RetortError, TransientError
from retort.states import TERMINAL, JobState

from retort_api.schemas.jobs import Event

BATCH = 200
"""Events that one look brings of a job."""
KEPT = 2 * BATCH
"""Newest events of a job that are kept for its listeners while there are any."""
_log = structlog.get_logger("retort.api")


class TooManyStreams(RetortError):
    """More jobs are followed at a time than may be."""

    code = "too_many_streams"


@dataclass(slots=True)
class News:
    """Events of a job since a look, and its state."""

    events: list[Event]
    last_seq: int
    state: JobState


@dataclass(slots=True)
class Channel:
    """Newest events of one job, for all its listeners."""

    seq: int
    """Number of the last event that has been looked up."""
    listeners: int = 0
    reached: JobState | None = None
    """The job's state, once everything up to it has been looked up."""
    closed: bool = False
    """Whether nothing more will come: the server stops, the database is away, or the job is gone."""
    tail: deque[Event] = field(default_factory=lambda: deque(maxlen=KEPT))
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, news: News | None) -> None:
        """Hand news to the listeners; None is for a job that is gone."""
        if news is None:
            self.closed = True
        elif not news.events and self.reached is news.state:
            return
        else:
            self.tail.extend(news.events)
            self.seq = news.events[-1].seq if news.events else self.seq
            self.reached = news.state if self.seq >= news.last_seq else None
        self.tell()

    def tell(self) -> None:
        """Wake all listeners."""
        told, self.told = self.told, asyncio.Event()
        told.set()

    def after(self, seq: int) -> list[Event] | None:
        """Return the events after *seq*; None where some of them are kept no more."""
        if seq >= self.seq:
            return []
        if not self.tail or self.tail[0].seq > seq + 1:
            return None
        return [event for event in self.tail if event.seq > seq]


class StreamHub:
    """Follows all watched jobs with one query at a time.

    Args:
        database: where jobs and events are.
        stopping: set when the server begins to shut down: all streams end.
        every_s: pause between two looks.
        most: streams at a time.
        most_each: streams at a time of one caller.

    """

    def __init__(
        self,
        database: Database,
        stopping: threading.Event,
        *,
        every_s: float = 0.4,
        most: int = 2000,
        most_each: int = 200,
    ) -> None:
        self.database = database
        self.stopping = stopping
        self.looks = 0
        """How often the database was asked what is new."""
        self._every_s = every_s
        self._most, self._most_each = most, most_each
        self._open: Counter[str] = Counter()
        self._channels: dict[str, Channel] = {}
        self._watcher: asyncio.Task[None] | None = None

    @contextmanager
    def admitted(self, caller: str) -> Iterator[None]:
        """Count one stream of *caller*.

        Raises:
            TooManyStreams: there is no room for one more.

        """
        if self._open[caller] >= self._most_each:
            told = f"you follow {self._most_each} jobs at a time already"
            raise TooManyStreams(told, hint="close some streams, or list the events instead")
        if self._open.total() >= self._most:
            raise TooManyStreams("the service sends as many streams as it may", hint="list the events instead")
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    @contextmanager
    def channel(self, job_id: str, seq: int) -> Iterator[Channel]:
        """Join those who follow the job; all up to *seq* is known."""
        channel = self._channels.get(job_id)
        if channel is None or channel.closed:
            channel = self._channels[job_id] = Channel(seq)
        channel.listeners += 1
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())
        try:
            yield channel
        finally:
            channel.listeners -= 1
            if not channel.listeners and self._channels.get(job_id) is channel:
                del self._channels[job_id]

    async def _watch(self) -> None:
        """Look for news until nobody listens; whatever ends this ends the streams, which clients open again."""
        try:
            while self._channels and not self.stopping.is_set():
                await asyncio.sleep(self._every_s)
                positions = {job_id: channel.seq for job_id, channel in self._channels.items()}
                if not positions:
                    break
                news = await run_sync(self._look, positions)
                for job_id in positions.keys() & self._channels.keys():
                    self._channels[job_id].put(news.get(job_id))
        except TransientError as error:
            _log.warning("streams_interrupted", error=error.message)
        finally:
            self._watcher = None
            for channel in self._channels.values():
                channel.closed = True
                channel.tell()

    def _look(self, positions: Mapping[str, int]) -> dict[str, News]:
        """Return what is new of each job, and the states at that same moment."""
        self.looks += 1
        with self.database.read() as session:
            return {
                job_id: News(
                    [Event.of(row) for row in events.list_after(session, job_id, positions[job_id], BATCH)]
                    if head.last_seq > positions[job_id]
                    else [],
                    head.last_seq,
                    head.state,
                )
                for job_id, head in jobs.heads(session, list(positions)).items()
            }


@dataclass(slots=True)
class EventStream:
    """One reader's place in one job's events.

    Between news it holds no connection and no thread.
    """

    hub: StreamHub
    job_id: str
    seq: int
    """Number of the last event sent."""
    max_age_s: float = 600.0
    """After this the client is to come back: it may then reach another server."""

    async def messages(self) -> AsyncIterator[ServerSentEvent]:
        """Yield everything after *seq*, then what happens, then ``end``.

        It also ends when the server stops.
        """
        deadline = time.monotonic() + self.max_age_s
        yield ServerSentEvent(comment=f"events of {self.job_id}", retry=1000)
        while not self.hub.stopping.is_set() and time.monotonic() < deadline:
            try:
                batch, state = await run_sync(self._behind)
            except TransientError as error:
                _log.warning("stream_interrupted", job_id=self.job_id, error=error.message)
                return
            for event in batch:
                yield self._sent(event)
            if len(batch) == BATCH:
                continue
            if state in TERMINAL:
                yield _end(state)
                return
            with self.hub.channel(self.job_id, self.seq) as channel:
                async for message in self._live(channel, deadline):
                    yield message
                if channel.closed or self._ended(channel):
                    return

    async def _live(self, channel: Channel, deadline: float) -> AsyncIterator[ServerSentEvent]:
        """Yield what is new until nothing more can come, or this reader is too far behind."""
        while not channel.closed and time.monotonic() < deadline:
            told = channel.told
            found = channel.after(self.seq)
            if found is None:
                return
            for event in found:
                yield self._sent(event)
            if self._ended(channel):
                assert channel.reached is not None
                yield _end(channel.reached)
                return
            if channel.told is told:
                with anyio.move_on_after(deadline - time.monotonic()):
                    await told.wait()

    def _ended(self, channel: Channel) -> bool:
        return channel.reached in TERMINAL and self.seq >= channel.seq

    def _sent(self, event: Event) -> ServerSentEvent:
        self.seq = event.seq
        return ServerSentEvent(id=str(event.seq), event=event.type, data=event)

    def _behind(self) -> tuple[list[Event], JobState]:
        """Return what this reader has missed, and the job's state at that same moment."""
        with self.hub.database.read() as session:
            state = jobs.get(session, self.job_id).state
            return [Event.of(row) for row in events.list_after(session, self.job_id, self.seq, BATCH)], state


def _end(state: JobState) -> ServerSentEvent:
    return ServerSentEvent(event="end", data={"state": state.value})
