"""Find what advice jobs have measured of teachers on some data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from retort.db.models import JobRow
from retort.spec.advised import AdviceResult, AnyCandidate
from retort.spec.result import readable_result
from retort.states import JobState

_MOST_JOBS = 20
"""The latest ones."""


@dataclass(frozen=True, slots=True)
class Advised:
    """Measurement of one teacher by an advice job."""

    job_id: str
    candidate: AnyCandidate
    student: str
    """The network that was to be taught."""
    student_map: float | None
    """What it reaches before it is taught; null from random weights."""


def measured(session: Session, data: str) -> dict[str, Advised]:
    """Return the latest measurement of each teacher on *data*, by its weights.

    The data is a dataset's reference, or a folder.
    """
    found: dict[str, Advised] = {}
    for job_id, advice in _results(session, data):
        for one in advice.candidates:
            found.setdefault(one.weights, Advised(job_id, one, advice.student.model, advice.student.map))
    return found


def recommended(session: Session, data: str) -> str | None:
    """Return the weights that the latest advice about the dataset or folder *data* recommends."""
    for _, advice in _results(session, data):
        return advice.recommended.weights if advice.recommended is not None else None
    return None


def latest(session: Session, data: str) -> JobRow | None:
    """Return the newest advice job about *data*, whatever came of it."""
    query = select(JobRow).where(JobRow.deleted_at.is_(None), *_about(data))
    return session.scalars(query.order_by(JobRow.id.desc()).limit(1)).first()


def _about(data: str) -> tuple[ColumnElement[bool], ...]:
    said = JobRow.spec["data"]
    return (
        JobRow.spec["task"].as_string() == "advise",
        (said["dataset"].as_string() == data) | (said["path"].as_string() == data),
    )


def _results(session: Session, data: str) -> Iterator[tuple[str, AdviceResult]]:
    """Yield what succeeded advice jobs have found out, newest first."""
    query = select(JobRow.id, JobRow.result).where(
        JobRow.state == JobState.SUCCEEDED,
        JobRow.result.is_not(None),
        JobRow.deleted_at.is_(None),
        *_about(data),
    )
    for row in session.execute(query.order_by(JobRow.id.desc()).limit(_MOST_JOBS)):
        result = readable_result(row.result)
        if isinstance(result, AdviceResult):
            yield row.id, result
