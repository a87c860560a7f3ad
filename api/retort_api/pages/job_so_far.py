"""Read the scores of a job's networks before it has a result."""

from __future__ import annotations

from dataclasses import dataclass

from retort.constants import MAP, Role
from retort.db import Session, metrics
from retort.db.metrics import SeriesName

_STUDENT, _CONTROL = SeriesName(Role.STUDENT, MAP), SeriesName(Role.CONTROL, MAP)
_TEACHER = SeriesName(Role.STUDENT, "teacher/mAP50-95")
"""Written down among the student's figures, at its first epoch."""


@dataclass(frozen=True, slots=True)
class SoFar:
    """Scores at the last epoch that the control has ended, and the teacher's."""

    epoch: int | None
    student: float | None
    control: float | None
    teacher: float | None


def so_far(session: Session, job_id: str) -> SoFar:
    """Return the scores that are known; the job need not have any."""
    epoch = metrics.last_step(session, job_id, _CONTROL)
    taught = metrics.last_step(session, job_id, _TEACHER)
    steps = {step for step in (epoch, taught) if step is not None}
    found = metrics.at_steps(session, job_id, (_STUDENT, _CONTROL, _TEACHER), steps) if steps else {}

    def at(series: SeriesName, step: int | None) -> float | None:
        point = found.get(series, {}).get(step) if step is not None else None
        return point.value if point else None

    return SoFar(epoch, at(_STUDENT, epoch), at(_CONTROL, epoch), at(_TEACHER, taught))
