"""Run the trackers of one attempt; report those that were disabled."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import structlog
from retort.data.inputs import Inputs
from retort.db import Database, metrics, queue
from retort.errors import TransientError
from retort.protocol.events import AnyEvent, MetricEvent
from retort.spec import parse_spec
from retort.spec.outcome import ExtraOutcome
from retort.tracking.dispatcher import LastSteps, TrackerDispatcher
from retort.tracking.session import tracker_configs

from retort_worker.context import WorkerContext
from retort_worker.process import RunOutcome
from retort_worker.recorder import Recorder

_log = structlog.get_logger()


class Trackers:
    """Trackers of one attempt, which they can neither fail nor hold up.

    There are none where the spec wants none.
    """

    def __init__(self, context: WorkerContext, claim: queue.Claim, workdir: Path) -> None:
        self._context = context
        self._claim = claim
        self._workdir = workdir
        self._dispatcher: TrackerDispatcher | None = None
        self._last_steps: LastSteps = {}
        tracking = claim.spec.get("tracking", {})
        self._wanted = bool(tracking.get("wandb") or tracking.get("mlflow"))
        self._early: list[MetricEvent] | None = [] if self._wanted else None
        """Told before they are open; None once they are, or are not wanted."""
        self._untold: list[str] = []
        self._known: list[str] = []

    def look_back(self) -> None:
        """Read the last steps that earlier attempts recorded.

        This comes before the events that those attempts left unrecorded are recorded too.
        """
        if self._wanted and self._claim.lease.attempt > 1:
            with suppress(TransientError):  # then points come twice
                self._last_steps = _last_steps(self._context.database, self._claim.lease.job_id)

    def begin(self) -> None:
        """Open the trackers, once the inputs of the run are known."""
        if not self._wanted:
            return
        early, self._early = self._early, None
        try:
            self._dispatcher = self._open()
            for event in early or ():
                self.on_event(event)
        except Exception as error:  # noqa: BLE001 - a run needs no tracker
            _log.exception("trackers were not opened", job=self._claim.lease.job_id)
            self._untold.append(f"no tracker is told of this attempt: {error}")

    def _open(self) -> TrackerDispatcher:
        lease, settings = self._claim.lease, self._context.settings
        spec = parse_spec(dict(self._claim.spec))
        tags = {"job_id": lease.job_id, "dataset_digest": Inputs.load(self._workdir).dataset.digest}
        return TrackerDispatcher(
            tracker_configs(spec, settings, job_id=lease.job_id, attempt=lease.attempt, tags=tags),
            self._workdir,
            reached=self._last_steps,
            timeout_s=settings.tracking_timeout_s,
            command=self._context.tracker,
        )

    def on_event(self, event: AnyEvent) -> None:
        """Pass an event on to the trackers, after it was recorded."""
        if self._dispatcher is not None:
            self._dispatcher.on_event(event)
        elif self._early is not None and isinstance(event, MetricEvent):
            self._early.append(event)

    def end(self, outcome: RunOutcome) -> None:
        """Report the attempt's outcome to the trackers."""
        if self._dispatcher is not None:
            self._dispatcher.end(outcome.result, outcome.failure)

    def busy(self) -> bool:
        """Return True if a tracker is at work within its time limit."""
        return self._dispatcher is not None and self._dispatcher.busy()

    def wait(self, timeout_s: float) -> None:
        """Wait until a busy tracker has ended, at most *timeout_s* seconds."""
        assert self._dispatcher is not None
        self._dispatcher.wait(timeout_s)

    def report(self, recorder: Recorder) -> None:
        """Log which trackers were disabled, and why."""
        if self._dispatcher is not None:
            self._untold += self._dispatcher.troubles()
        self._known += [one for one in self._untold if one not in self._known]
        while self._untold and recorder.log(self._untold[0], "warning"):
            _log.warning(self._untold.pop(0), job=self._claim.lease.job_id)

    def lost(self) -> tuple[ExtraOutcome, ...]:
        """Return what became of the trackers that were disabled; ``report`` comes before."""
        return tuple(ExtraOutcome(name="tracker", status="failed", reason=why) for why in self._known)

    def close(self) -> None:
        """Kill the tracker processes that still run."""
        if self._dispatcher is not None:
            self._dispatcher.close()


def _last_steps(database: Database, job_id: str) -> LastSteps:
    """Return the last recorded step of each curve."""
    with database.read() as session:
        found = metrics.series(session, job_id)
    return {(series.role, series.name): series.points[-1].step for series in found if series.points}
