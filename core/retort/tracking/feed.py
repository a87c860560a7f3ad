"""What the trackers of one attempt are fed with, and what became of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from retort.events import AnyEvent, ArtifactEvent, FailedEvent, Failure, FinishedEvent, MetricEvent, StoppedEvent
from retort.spec.result import Result
from retort.tracking.channel import Channel
from retort.tracking.opening import Kind, Opening

COMMAND = (sys.executable, "-m", "retort.tracking")
"""The program of one tracker."""
HANDED_OVER = frozenset({"report.html", "report.json", "student.pt"})
"""Artifacts that a tracker gets where the spec says so."""
TITLES: dict[Kind, str] = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "mlflow": "MLflow"}

Reached = Mapping[tuple[str, str], int]
"""By role and metric, the last step that earlier attempts have measured."""


class Feed:
    """Every tracker of one attempt, each on its own: none waits for another, and nobody waits for any of them."""

    def __init__(
        self,
        openings: Iterable[Opening],
        workdir: Path,
        *,
        reached: Reached,
        timeout_s: float,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._workdir = workdir.resolve()
        self._reached = dict(reached)
        self._timeout_s = timeout_s
        self._deadline: float | None = None
        self._channels: dict[Kind, Channel] = {}
        self._with_files: set[Kind] = set()
        self._told: set[Kind] = set()
        for opening in openings:
            about = opening.spec["tracking"][opening.kind]
            if isinstance(about, dict) and about["artifacts"]:
                self._with_files.add(opening.kind)
            self._channels[opening.kind] = Channel(
                opening.model_dump_json(), command=command, folder=self._workdir, timeout_s=timeout_s
            )

    def listen(self, event: AnyEvent) -> None:
        """Pass on what trackers want to know; what an earlier attempt has measured is not told again."""
        if isinstance(event, MetricEvent):
            values = {name: value for name, value in event.values.items() if self._is_news(event, name)}
            if values:
                self._tell(event.model_copy(update={"values": values}), self._channels)
        elif isinstance(event, ArtifactEvent) and event.name in HANDED_OVER:
            path = (self._workdir / event.path).resolve()
            if path.is_relative_to(self._workdir) and path.is_file():
                self._tell(event.model_copy(update={"path": str(path)}), self._with_files)

    def _is_news(self, event: MetricEvent, name: str) -> bool:
        return event.step > self._reached.get((event.role.value, name), -1)

    def _tell(self, event: AnyEvent, kinds: Iterable[Kind]) -> None:
        for kind in kinds:
            if self._channels[kind].trouble is None:
                self._channels[kind].tell(event.model_dump_json())

    def end(self, result: Result | None, failure: Failure | None) -> None:
        """Say how the attempt ended; from now on the trackers have a limited time."""
        if self._deadline is not None:
            return
        common = {"n": 1, "at": time.time()}
        event: AnyEvent = StoppedEvent(**common)
        if result is not None:
            event = FinishedEvent(**common, result=result)
        elif failure is not None:
            event = FailedEvent(**common, failure=failure)
        self._tell(event, self._channels)
        for channel in self._channels.values():
            channel.tell(None)
        self._deadline = time.monotonic() + self._timeout_s

    def busy(self) -> bool:
        """Whether a tracker is still at work, and its time is not up; then it is switched off."""
        working = [channel for channel in self._channels.values() if channel.busy]
        if working and self._deadline is not None and time.monotonic() >= self._deadline:
            for channel in working:
                channel.close(f"it did not end within {self._timeout_s:g} s")
            return False
        return bool(working)

    def wait(self, timeout_s: float) -> None:
        """Return when a tracker that is at work has ended, or after *timeout_s*."""
        for channel in self._channels.values():
            if channel.busy:
                channel.wait(timeout_s)
                return

    def troubles(self) -> list[str]:
        """Return what is new to tell of trackers that were switched off, one sentence each."""
        found = [kind for kind, channel in self._channels.items() if channel.trouble and kind not in self._told]
        self._told.update(found)
        return [f"{TITLES[kind]} is switched off for this attempt: {self._channels[kind].trouble}" for kind in found]

    def close(self) -> None:
        """Kill what is left."""
        for channel in self._channels.values():
            channel.close()
