"""Store the review decisions about pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import delete, insert, literal, select
from sqlalchemy.orm import Session

from retort.db import jobs
from retort.db.models import ReviewRow
from retort.db.session import add_or_replace, table
from retort.errors import UserError
from retort.review.models import UNDECIDED, ImageDecision, ReviewError, ReviewSet, Verdict, undecided
from retort.states import JobState

_REVIEWS = table(ReviewRow)


class ReviewOpen(UserError):
    """Some images have no review decision yet."""

    code = "review_open"


class DecisionConflict(UserError):
    """Somebody else has decided about the image since the client has seen it."""

    code = "version_conflict"


Matches = Callable[[str], bool]
"""Whether the version of a decision is the one that the client has seen."""


_SHOWN_S = 1e-6
"""To this times are rounded where they are shown: what was decided at a time that was shown is not before it."""


def of_job(
    session: Session, job_id: str, images: Sequence[str] | None = None, *, since: float | None = None
) -> list[ImageDecision]:
    """Return the review decisions about the job's images.

    With *images*, they are about these only, by name; with *since*, they are no older.
    """
    query = select(ReviewRow).where(ReviewRow.job_id == job_id).order_by(ReviewRow.image)
    if images is not None:
        query = query.where(ReviewRow.image.in_(images))
    if since is not None:
        query = query.where(ReviewRow.at >= since - _SHOWN_S)
    columns = ("image", "decision", "boxes", "reviewer", "at", "seen")
    return [
        ImageDecision.model_validate({name: getattr(row, name) for name in columns}) for row in session.scalars(query)
    ]


def decide(
    session: Session, job_id: str, decisions: Sequence[ImageDecision], *, matches: Matches | None = None
) -> None:
    """Record *decisions*, in place of earlier decisions about the same images.

    With *matches*, the earlier ones have to be those that the client has seen.

    Raises:
        JobNotFound: there is no such job.
        JobFinished: it has ended.
        WrongState: it does not wait for a review, or not any more.
        DecisionConflict: an earlier decision is another one.

    """
    jobs.under_review(session, job_id)
    _insist(session, job_id, [decision.image for decision in decisions], matches)
    _write(session, job_id, decisions)


def withdraw(session: Session, job_id: str, image: str, *, matches: Matches | None = None) -> None:
    """Open *image* again, whatever was decided about it.

    Raises:
        JobNotFound, JobFinished, WrongState, DecisionConflict: as ``decide``.

    """
    jobs.under_review(session, job_id)
    _insist(session, job_id, [image], matches)
    session.execute(delete(_REVIEWS).where(_REVIEWS.c.job_id == job_id, _REVIEWS.c.image == image))


def complete(
    session: Session,
    job_id: str,
    review_set: ReviewSet,
    *,
    rest: Verdict | None,
    reviewer: str,
    now: float,
    actor: str,
) -> JobState:
    """Complete the review and queue the job; *rest* decides the open images.

    Asking again when that is done changes nothing.

    Raises:
        JobNotFound, JobFinished, WrongState: as ``decide``.
        ReviewOpen: images are open, and nothing was said about the rest.

    """
    try:
        job = jobs.under_review(session, job_id)
    except jobs.WrongState:
        if _remaining(session, job_id, review_set):
            raise
        return jobs.get(session, job_id).state
    remaining = _remaining(session, job_id, review_set)
    if remaining and rest is None:
        shown = ", ".join(remaining[:5]) + (", …" if len(remaining) > 5 else "")
        hint = (
            f"decide about them, or: retort review complete {job_id} --rest accept (or reject); "
            'over REST: POST …/review/complete with {"rest": "accept"}'
        )
        raise ReviewOpen(f"{len(remaining)} images are open: {shown}", hint=hint)
    if rest == "edit":
        raise ReviewError("the rest can be accepted or rejected", hint="accept or reject")
    if rest is not None:
        about = {"decision": rest, "reviewer": reviewer, "at": now, "seen": False}
        _write(session, job_id, [ImageDecision.model_validate({"image": image, **about}) for image in remaining])
    return jobs.go_on(session, job, now=now, actor=actor)


def inherit(session: Session, parent_id: str, job_id: str) -> None:
    """Copy the review decisions of a job to its retry."""
    columns = [column for column in _REVIEWS.c if column.name != "job_id"]
    found = select(literal(job_id), *columns).where(_REVIEWS.c.job_id == parent_id)
    session.connection().execute(insert(_REVIEWS).from_select(["job_id", *(column.name for column in columns)], found))


def _insist(session: Session, job_id: str, images: Sequence[str], matches: Matches | None) -> None:
    """Refuse to replace decisions that the client has not seen; the job is locked."""
    if matches is None:
        return
    known = {decision.image: decision for decision in of_job(session, job_id, images)}
    for image in images:
        now = known.get(image)
        if not matches(UNDECIDED if now is None else now.version):
            told = "the decision was withdrawn" if now is None else f"{now.reviewer} has decided: {now.decision}"
            hint = "read the image again, and decide from what it is now"
            raise DecisionConflict(f"{image} has changed since: {told}", hint=hint)


def _remaining(session: Session, job_id: str, review_set: ReviewSet) -> list[str]:
    decided = set(session.scalars(select(ReviewRow.image).where(ReviewRow.job_id == job_id)))
    return undecided(review_set, decided)


def _write(session: Session, job_id: str, decisions: Sequence[ImageDecision]) -> None:
    rows = [
        {
            "job_id": job_id,
            "image": decision.image,
            "decision": decision.decision,
            "boxes": None if decision.boxes is None else [box.model_dump() for box in decision.boxes],
            "reviewer": decision.reviewer,
            "at": decision.at,
            "seen": decision.seen,
        }
        for decision in decisions
    ]
    add_or_replace(session, ReviewRow, rows, key=("job_id", "image"), keep=())
