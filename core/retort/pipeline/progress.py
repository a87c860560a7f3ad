"""Progress and remaining time over all stages, from what each costs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from retort.constants import FAMILIES, SIZES
from retort.protocol.journal import Journal
from retort.spec import JobSpec

_EVERY_S = 2.0
_FIRST_ESTIMATE_S = 10.0
"""Before this the speed is that of imports and first batches, and an estimate would scare people."""


class Progress:
    """Progress of a run: the stages added up by cost."""

    def __init__(
        self, journal: Journal, costs: Mapping[str, float], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._journal = journal
        self._costs = dict(costs)
        self._total = sum(costs.values())
        self._clock = clock
        self._started = clock()
        self._told_at = -_EVERY_S
        self._finished = 0.0
        self._worked = 0.0
        """Part of the finished cost that was done by this attempt, and so took time."""
        self._current = 0.0

    def of(self, stage: str) -> Callable[[float], None]:
        """Return the progress callback of *stage*, which takes 0 to 1."""
        return lambda fraction: self._tell(self._costs[stage] * min(1.0, max(0.0, fraction)))

    def done(self, stage: str) -> None:
        """Count *stage* as done; a skipped stage does not count for speed."""
        self._finished += self._costs[stage]
        self._worked += self._costs[stage] if self._current else 0.0
        self._current = 0.0
        self._say(self._clock())

    def _tell(self, cost: float) -> None:
        self._current = max(self._current, cost)
        now = self._clock()
        if now - self._told_at >= _EVERY_S:
            self._say(now)

    def _say(self, now: float) -> None:
        self._told_at = now
        done = self._finished + self._current
        worked, elapsed = self._worked + self._current, now - self._started
        known = worked > 0 and elapsed >= _FIRST_ESTIMATE_S
        self._journal.progress(done / self._total, (self._total - done) * elapsed / worked if known else None)


_GFLOPS = {
    "yolov8": (8.7, 28.6, 78.9, 165.2, 257.8),
    "yolo11": (6.5, 21.5, 68.0, 86.9, 194.9),
    "yolo12": (6.5, 21.4, 67.5, 88.9, 199.0),
    "yolo26": (5.4, 20.7, 68.2, 86.4, 193.9),
}
"""Of one forward pass at 640 pixels, by size; from the networks' papers and model cards."""
_UNKNOWN = 86.9
_OVERHEAD = 4.0
"""Loading, augmenting and launching do not shrink with the network."""
_BACKWARD = 2.0
"""A backward pass over a forward pass."""
_VALIDATION = 0.2
"""Share of an epoch that its validation adds."""


def forward(name: str, scale: float = 1.0) -> float:
    """Return the cost of an epoch of forward passes.

    They are of the network or weight file *name*, on *scale* x the pixels.
    """
    match = re.match(rf"({'|'.join(FAMILIES)})([{''.join(SIZES)}])", name)
    return _OVERHEAD + scale * (_GFLOPS[match[1]][SIZES.index(match[2])] if match else _UNKNOWN)


def training(name: str, epochs: int, scale: float = 1.0) -> float:
    """Return the cost of training *name* for *epochs* epochs."""
    return epochs * forward(name, scale) * (1 + _BACKWARD + _VALIDATION)


def scale(imgsz: int | None, spec: JobSpec) -> float:
    """Return the input pixels at *imgsz* relative to the student's.

    A *imgsz* of None is the student's size.
    """
    return ((imgsz or spec.training.imgsz) / spec.training.imgsz) ** 2


def plain(spec: JobSpec) -> float:
    """Return the cost of the student's training without a teacher."""
    return training(spec.student.label, spec.training.epochs)


def distilling(spec: JobSpec) -> float:
    """Return the cost of distillation: training plus the teachers' forward passes."""
    teachers = 0.0 if spec.teacher.cache else forward(teacher(spec), scale(spec.teacher.imgsz, spec))
    teachers += sum(forward(one.weights, scale(one.imgsz, spec)) for one in spec.teacher.ensemble)
    more = spec.data.unlabelled
    images = 1.0 if more is None else 1 + more.ratio
    return images * (plain(spec) + spec.training.epochs * teachers)


_VIEWS = {"flip": 1.0, "scales": 0.75**2 + 1.25**2, "tiles": 4.0}
"""Pixels of what a view adds, over those of the image as it is."""


def asking_ahead(spec: JobSpec) -> float:
    """Return the cost of asking a cached teacher about every image, in all views."""
    more = 1 + sum(_VIEWS[view] for view in spec.teacher.views)
    return more * forward(teacher(spec), scale(spec.teacher.imgsz, spec))


def teacher(spec: JobSpec) -> str:
    """Return the name of the teacher's network or weight file."""
    train = spec.teacher.train
    return train.label if train is not None else str(spec.teacher.weights)
