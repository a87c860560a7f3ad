"""The trackers of one attempt, as its supervision keeps them: fed, never waited for long, and their troubles told."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog
from retort.data.inputs import Inputs
from retort.db import Database, metrics, queue
from retort.errors import WorldError
from retort.protocol.events import AnyEvent, MetricEvent
from retort.spec import parse_spec
from retort.tracking.dispatcher import Feed, Reached
from retort.tracking.session import openings

from retort_worker.context import Workshop
from retort_worker.process import Outcome
from retort_worker.recorder import Recorder

_log = structlog.get_logger()


class Trackers:
    """None where the spec wants none; nothing that happens in them can fail or hold up the attempt."""

    def __init__(self, workshop: Workshop, claim: queue.Claim, workdir: Path) -> None:
        self._workshop = workshop
        self._claim = claim
        self._workdir = workdir
        self._feed: Feed | None = None
        self._reached: Reached = {}
        tracking = claim.spec.get("tracking", {})
        self._wanted = bool(tracking.get("wandb") or tracking.get("mlflow"))
        self._early: list[MetricEvent] | None = [] if self._wanted else None
        """Told before they are open; None once they are, or are not wanted."""
        self._untold: list[str] = []

    def look_back(self) -> None:
        """See how far earlier attempts are on record, before what they said unheard is recorded too."""
        if self._wanted and self._claim.lease.attempt > 1:
            with suppress(WorldError):  # then points come twice
                self._reached = _reached(self._workshop.database, self._claim.lease.job_id)

    def begin(self) -> None:
        """Open them, once the inputs of the run are known."""
        if not self._wanted:
            return
        early, self._early = self._early, None
        try:
            self._feed = self._open()
            for event in early or ():
                self.listen(event)
        except Exception as error:  # noqa: BLE001 - a run needs no tracker
            _log.exception("trackers were not opened", job=self._claim.lease.job_id)
            self._untold.append(f"no tracker is told of this attempt: {error}")

    def _open(self) -> Feed:
        lease, settings = self._claim.lease, self._workshop.settings
        spec = parse_spec(dict(self._claim.spec))
        tags = {"job_id": lease.job_id, "dataset_digest": Inputs.load(self._workdir).dataset.digest}
        return Feed(
            openings(spec, settings, job_id=lease.job_id, attempt=lease.attempt, tags=tags),
            self._workdir,
            reached=self._reached,
            timeout_s=settings.tracking_timeout_s,
            command=self._workshop.tracker,
        )

    def listen(self, event: AnyEvent) -> None:
        """Pass an event on, after it was recorded."""
        if self._feed is not None:
            self._feed.listen(event)
        elif self._early is not None and isinstance(event, MetricEvent):
            self._early.append(event)

    def end(self, outcome: Outcome) -> None:
        """Say how the attempt ended."""
        if self._feed is not None:
            self._feed.end(outcome.result, outcome.failure)

    def busy(self) -> bool:
        """Whether one is still at work, and its time is not up."""
        return self._feed is not None and self._feed.busy()

    def wait(self, timeout_s: float) -> None:
        """Return when one that is at work has ended, or after *timeout_s*."""
        assert self._feed is not None
        self._feed.wait(timeout_s)

    def report(self, recorder: Recorder) -> None:
        """Tell the job's owner which were switched off, and why."""
        if self._feed is not None:
            self._untold += self._feed.troubles()
        while self._untold and recorder.say(self._untold[0], "warning"):
            _log.warning(self._untold.pop(0), job=self._claim.lease.job_id)

    def close(self) -> None:
        """Kill what is left of them."""
        if self._feed is not None:
            self._feed.close()


def _reached(database: Database, job_id: str) -> Reached:
    """Return the last recorded step of each curve."""
    with database.read() as session:
        found = metrics.series(session, job_id)
    return {(series.role, series.name): series.points[-1].step for series in found if series.points}
