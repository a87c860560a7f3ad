"""The trackers of a run in this terminal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retort.cli.output import note
from retort.errors import WorldError
from retort.events import MetricEvent
from retort.intake.inputs import Inputs
from retort.journal import read
from retort.settings import Settings
from retort.spec import AnySpec
from retort.tracking.feed import Feed, Reached
from retort.tracking.opening import openings
from retort.workdir import journal as journal_of

FOLDER = Path("artifacts") / "tensorboard"
"""Of the event files, in the workdir."""


@contextmanager
def told(spec: AnySpec, settings: Settings, workdir: Path, attempt: int) -> Iterator[Feed]:
    """Feed the trackers that *spec* names; when the block ends, wait a limited time for them."""
    name = f"local_{hashlib.sha256(str(workdir).encode()).hexdigest()[:32]}"
    tags = {"dataset_digest": Inputs.load(workdir).dataset.digest}
    wanted = openings(
        spec, settings, job_id=name, attempt=attempt, tags=tags, event_files=workdir / FOLDER
    )  # fmt: skip
    feed = Feed(wanted, workdir, reached=_reached(workdir, attempt), timeout_s=settings.tracking_timeout_s)
    try:
        yield feed
        while feed.busy():
            feed.wait(0.3)
        for trouble in feed.troubles():
            note(trouble)
    finally:
        feed.close()


def _reached(workdir: Path, attempt: int) -> Reached:
    """Return the last step that earlier attempts have measured of each curve."""
    reached: dict[tuple[str, str], int] = {}
    for number in range(1, attempt):
        try:
            events, _ = read(journal_of(workdir, number))
        except WorldError:
            continue  # what cannot be read is told twice
        for event in events:
            if isinstance(event, MetricEvent):
                for curve in ((event.role.value, name) for name in event.values):
                    reached[curve] = max(event.step, reached.get(curve, 0))
    return reached
