"""Predictions: a short queue of images, answered by workers while their clients wait."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from retort import model_ref
from retort.constants import Role
from retort.db import model_registry
from retort.db.identity_models import ProjectRow
from retort.db.models import PREDICTION_PREFIX, ArtifactRow, JobRow, PredictionRow, new_id
from retort.db.session import NO_SYNC, add
from retort.errors import UserError

KEEP_S = 60.0
"""An image that nobody has fetched the boxes of for so long is forgotten."""
_STUDENT = "student.pt"
_BEST = re.compile(r"best-(\d+)\.pt")
_STUDENTS_STAGE = "distill"
_TRIED = (Role.STUDENT, Role.CONTROL, Role.TEACHER)
_CHECKPOINTS = "checkpoints/"
_EPOCH = re.compile(r"-epoch-(\d+)\.pt$")


class NoCheckpoint(UserError):
    """The job has no network to predict with yet."""

    code = "no_checkpoint"


class TooManyPredictions(UserError):
    """More images wait than may."""

    code = "too_many_predictions"

    headers = {"Retry-After": "2"}  # noqa: RUF012 - read only


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network of a job's student."""

    key: str
    """Where the store keeps it."""
    sha256: str
    epoch: int | None
    """Of the training, from 1; null where that is not known."""
    final: bool
    """Whether it is the published one."""


@dataclass(frozen=True, slots=True)
class TriedNetwork:
    """A network that can look at images for a job."""

    name: str
    """By which it is asked for: an artifact's, or the teacher's role."""
    role: Role
    checkpoint: Checkpoint
    imgsz: int


def last_checkpoint(session: Session, job: JobRow) -> Checkpoint:
    """Return the job's published student, or the best network of the training that runs.

    Raises:
        NoCheckpoint: there is none yet, or none any more.

    """
    query = select(ArtifactRow).where(ArtifactRow.job_id == job.id, ArtifactRow.name == _STUDENT)
    published = session.scalar(query)
    if published is not None:
        return Checkpoint(published.key, published.sha256, published.metadata_.get("epoch"), final=True)
    found = [
        Checkpoint(file["key"], file["sha256"], int(named[1]), final=False)
        for file in (job.recovery or {}).get("files", ())
        if (named := _BEST.fullmatch(PurePosixPath(file["path"]).name)) is not None
    ]
    if not found or (job.recovery or {}).get("stage") != _STUDENTS_STAGE:
        hint = "wait until the student's first state is saved; jobs that teach no student have none"
        raise NoCheckpoint(f"job {job.id} has no network of a {Role.STUDENT} yet", hint=hint)
    return max(found, key=lambda one: one.epoch or 0)


def networks(session: Session, job: JobRow) -> list[TriedNetwork]:
    """Return the networks of the job that the store has.

    Student, control and teacher come before the student's checkpoints. The teacher is one that the job has trained, or
    a registered model; a file that only workers have is not there.
    """
    named = ArtifactRow.name.in_([f"{role}.pt" for role in _TRIED]) | ArtifactRow.name.startswith(_CHECKPOINTS)
    query = select(ArtifactRow).where(ArtifactRow.job_id == job.id, ArtifactRow.deleted_at.is_(None), named)
    rows = {row.name: row for row in session.scalars(query.order_by(ArtifactRow.name))}
    found = [_choice(job, role, rows.pop(f"{role}.pt"), final=True) for role in _TRIED if f"{role}.pt" in rows]
    if all(one.role is not Role.TEACHER for one in found) and (given := _given_teacher(session, job)) is not None:
        found.append(given)
    epochs = [_choice(job, Role.STUDENT, row, final=False) for row in rows.values() if row.name.endswith(".pt")]
    return [*found, *epochs]


def network(session: Session, job: JobRow, name: str) -> TriedNetwork:
    """Return one of the job's networks by its name.

    Raises:
        NoCheckpoint: there is none of that name.

    """
    found = networks(session, job)
    chosen = next((one for one in found if one.name == name), None)
    if chosen is None:
        there = ", ".join(one.name for one in found) or "none yet"
        raise NoCheckpoint(f"job {job.id} has no network {name!r} that can be asked", hint=f"there are: {there}")
    return chosen


def _choice(job: JobRow, role: Role, row: ArtifactRow, *, final: bool) -> TriedNetwork:
    told = row.metadata_.get("epoch")
    named = _EPOCH.search(row.name)
    epoch = told if isinstance(told, int) else None if named is None else int(named[1])
    return TriedNetwork(row.name, role, Checkpoint(row.key, row.sha256, epoch, final=final), _side(job, role))


def _given_teacher(session: Session, job: JobRow) -> TriedNetwork | None:
    """Return the registered model that teaches, unless it is gone."""
    weights = (job.spec.get("teacher") or {}).get("weights")
    reference = model_ref.parse(weights) if isinstance(weights, str) else None
    model = None if reference is None else model_registry.find(session, reference, project=job.project)
    if model is None or model.deleted_at is not None:
        return None
    checkpoint = Checkpoint(model.key, model.sha256, None, final=True)
    return TriedNetwork(Role.TEACHER, Role.TEACHER, checkpoint, _side(job, Role.TEACHER))


def _side(job: JobRow, role: Role) -> int:
    """Return the side of the images that a network of the job sees."""
    own = (job.spec.get("teacher") or {}).get("imgsz") if role is Role.TEACHER else None
    return int(own or job.spec["training"]["imgsz"])


def submit(
    session: Session,
    job: JobRow,
    checkpoint: Checkpoint,
    image: bytes,
    *,
    confidence: float,
    most: int,
    now: float,
    imgsz: int | None = None,
) -> str:
    """Queue an image; return the prediction's id.

    Raises:
        TooManyPredictions: *most* images of the project wait already.

    """
    forget(session, now=now)
    # Those who come at a time count one after the other.
    session.execute(select(ProjectRow.name).where(ProjectRow.name == job.project).with_for_update())
    waiting = select(func.count()).select_from(PredictionRow).where(PredictionRow.project == job.project)
    if (session.scalar(waiting) or 0) >= most:
        raise TooManyPredictions(f"{most} images wait for their boxes already", hint="send one after the other")
    row = {
        "id": new_id(PREDICTION_PREFIX), "job_id": job.id, "image": image, "confidence": confidence,
        "imgsz": imgsz or _side(job, Role.STUDENT), "weights": checkpoint.key, "claimed_at": None, "answer": None,
        "created_at": now, "project": job.project, "owner": job.owner,
    }  # fmt: skip
    add(session, PredictionRow, [row])
    return str(row["id"])


def forget(session: Session, *, now: float) -> int:
    """Delete predictions that nobody waits for any more; return their number."""
    old = delete(PredictionRow).where(PredictionRow.created_at < now - KEEP_S)
    return int(session.execute(old, execution_options=NO_SYNC).rowcount)  # type: ignore[attr-defined]


def answers(session: Session, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the answers that are there, by prediction."""
    query = select(PredictionRow.id, PredictionRow.answer)
    rows = session.execute(query.where(PredictionRow.id.in_(ids), PredictionRow.answer.is_not(None)))
    return {row.id: row.answer for row in rows}


def remove(session: Session, prediction_id: str) -> None:
    """Forget a prediction, answered or not."""
    session.execute(delete(PredictionRow).where(PredictionRow.id == prediction_id), execution_options=NO_SYNC)


def waits(session: Session) -> bool:
    """Return True if an image waits for a worker."""
    return session.scalar(select(PredictionRow.id).where(PredictionRow.claimed_at.is_(None)).limit(1)) is not None


def take(session: Session, *, now: float) -> PredictionRow | None:
    """Claim the oldest image that waits; None where none does."""
    query = select(PredictionRow).where(PredictionRow.claimed_at.is_(None)).order_by(PredictionRow.created_at)
    row = session.scalar(query.limit(1).with_for_update(skip_locked=True))
    if row is not None:
        session.expunge(row)
        claimed = update(PredictionRow).where(PredictionRow.id == row.id).values(claimed_at=now)
        session.execute(claimed, execution_options=NO_SYNC)
    return row


def answer(session: Session, prediction_id: str, found: dict[str, Any]) -> None:
    """Write the answer down, if somebody still waits for it."""
    written = update(PredictionRow).where(PredictionRow.id == prediction_id).values(answer=found)
    session.execute(written, execution_options=NO_SYNC)
