"""Delete, restore and purge jobs, sweeps, artifacts and models.

What somebody still needs is refused with who needs it. What is in the trash keeps its rows and its bytes until its time
is up; then its rows go, and the keys of its bytes are marked for the collector.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Table, Text, cast, delete, exists, select, update
from sqlalchemy.orm import Session, aliased

from retort.db import artifacts, garbage, model_registry, references
from retort.db.artifacts import ArtifactNotFound
from retort.db.jobs import JobNotFound, WrongState, refuse_deleted
from retort.db.model_registry import ModelNotFound
from retort.db.models import ArtifactRow, Base, IdempotencyKeyRow, JobRow, ModelRow, SweepRow, SweepTrialRow
from retort.db.session import NO_SYNC, table
from retort.db.sweeps import SweepNotFound
from retort.errors import UserError
from retort.model_ref import PATTERN, ModelRef
from retort.states import LIVE_SWEEPS, TERMINAL

_TOLD = 3
_REFERENCES = re.compile(PATTERN)


class InUse(UserError):
    """Something that is not in the trash still needs it."""

    code = "in_use"

    def __init__(self, what: str, users: Iterable[str], *, hint: str) -> None:
        listed = list(users)
        more = f" and {len(listed) - _TOLD} more" if len(listed) > _TOLD else ""
        super().__init__(f"{what} is still needed by {', '.join(listed[:_TOLD])}{more}", hint=hint)


def lock_job(session: Session, job_id: str) -> JobRow:
    """Return the job, which nobody can change until the transaction ends.

    Raises:
        JobNotFound: there is no such job, or its rows are on their way out.

    """
    job = session.scalar(select(JobRow).where(JobRow.id == job_id, JobRow.purged_at.is_(None)).with_for_update())
    if job is None:
        raise JobNotFound(f"there is no job {job_id}")
    session.expunge(job)  # what changes it are statements
    return job


def delete_job(session: Session, job_id: str, *, now: float) -> None:
    """Move a job that has ended to the trash; again changes nothing.

    Raises:
        JobNotFound: there is no such job.
        WrongState: it has not ended, or is pinned.
        InUse: another job goes on from it, or it is a trial of a sweep.

    """
    job = lock_job(session, job_id)
    if job.deleted_at is not None:
        return
    _refuse_unfit(job)
    if job.sweep_id is not None and _exists(session, SweepRow.id == job.sweep_id, SweepRow.deleted_at.is_(None)):
        raise InUse(f"job {job_id}", [f"sweep {job.sweep_id}"], hint="delete the sweep: its jobs go with it")
    move_jobs(session, [job_id], now=now)


def restore_job(session: Session, job_id: str) -> None:
    """Take a job out of the trash; again changes nothing.

    Raises:
        JobNotFound: there is no such job (any more).
        InUse: its sweep is in the trash.

    """
    job = lock_job(session, job_id)
    if job.sweep_id is not None and _exists(session, SweepRow.id == job.sweep_id, SweepRow.deleted_at.is_not(None)):
        raise WrongState(f"job {job_id} is a trial of {job.sweep_id}, which is deleted", hint="restore the sweep")
    if job.deleted_at is not None:
        _take_back(session, [job_id], job.deleted_at)


def _refuse_unfit(job: JobRow) -> None:
    if job.state not in TERMINAL:
        hint = "cancel it, and delete it when it has stopped"
        raise WrongState(f"job {job.id} is {job.state}: only a job that has ended can be deleted", hint=hint)
    if job.keep:
        raise WrongState(f"job {job.id} is pinned", hint='unpin it first: PATCH /v1/jobs/{id} with {"keep": false}')


def needed_by_child(job: Any) -> Any:
    """Return the condition that an unfinished job repeats *job*.

    It may need its files.
    """
    child = aliased(JobRow)
    return exists().where(child.parent_id == job.id, child.state.not_in(TERMINAL))


def _refuse_parents(session: Session, job_ids: list[str]) -> None:
    wanting = select(JobRow.parent_id, JobRow.id).where(JobRow.parent_id.in_(job_ids), JobRow.state.not_in(TERMINAL))
    found = session.execute(wanting.order_by(JobRow.id)).all()
    if found:
        hint = "wait until they have ended, or cancel them"
        raise InUse(f"job {found[0].parent_id}", [f"job {row.id}" for row in found], hint=hint)


def move_jobs(session: Session, job_ids: list[str], *, now: float) -> None:
    """Move jobs to the trash, and the models that they have trained.

    Models stay that a spec outside of the trash names, or that a job there has published alike.

    Raises:
        InUse: another job goes on from one of them.

    """
    _refuse_parents(session, job_ids)
    changed = update(JobRow).where(JobRow.id.in_(job_ids)).values(deleted_at=now, version=JobRow.version + 1)
    session.execute(changed, execution_options=NO_SYNC)
    trained = select(ModelRow.id, ModelRow.name, ModelRow.sha256, ModelRow.key)
    models = session.execute(trained.where(ModelRow.job_id.in_(job_ids), ModelRow.deleted_at.is_(None))).all()
    if not models:
        return
    named = _named_references(session)
    published = select(ArtifactRow.key).join(JobRow, JobRow.id == ArtifactRow.job_id)
    outside = published.where(JobRow.deleted_at.is_(None), ArtifactRow.key.in_([model.key for model in models]))
    needed = set(session.scalars(outside))
    gone = [one.id for one in models if str(ModelRef(one.name, one.sha256)) not in named and one.key not in needed]
    values = update(ModelRow).where(ModelRow.id.in_(gone)).values(deleted_at=now)
    session.execute(values, execution_options=NO_SYNC)


def _take_back(session: Session, job_ids: list[str], at: float) -> None:
    """Take jobs out of the trash, and the models that went with them."""
    changed = update(JobRow).where(JobRow.id.in_(job_ids)).values(deleted_at=None, version=JobRow.version + 1)
    session.execute(changed, execution_options=NO_SYNC)
    theirs = update(ModelRow).where(ModelRow.job_id.in_(job_ids), ModelRow.deleted_at == at)
    session.execute(theirs.values(deleted_at=None), execution_options=NO_SYNC)


def _named_references(session: Session) -> set[str]:
    """Return all references to models in the specs of jobs and sweeps outside of the trash."""
    found: set[str] = set()
    for row in (JobRow, SweepRow):
        spec = cast(row.spec, Text)
        specs = session.scalars(select(spec).where(row.deleted_at.is_(None), spec.contains("@sha256:")))
        found |= {name for one in specs for name in _REFERENCES.findall(one)}
    return found


def delete_sweep(session: Session, sweep_id: str, *, now: float) -> None:
    """Move an ended sweep to the trash, and its jobs with it.

    Raises:
        SweepNotFound: there is no such sweep.
        WrongState: it, or one of its jobs, has not ended or is pinned.
        InUse: another job goes on from one of its jobs.

    """
    sweep = _lock_sweep(session, sweep_id)
    if sweep.deleted_at is not None:
        return
    if sweep.state in LIVE_SWEEPS:
        hint = "cancel it, and delete it when it has stopped"
        raise WrongState(f"sweep {sweep_id} is {sweep.state}: only one that has ended can be deleted", hint=hint)
    if sweep.keep:
        hint = 'unpin it first: PATCH /v1/sweeps/{id} with {"keep": false}'
        raise WrongState(f"sweep {sweep_id} is pinned", hint=hint)
    found = select(JobRow).where(JobRow.sweep_id == sweep_id, JobRow.deleted_at.is_(None)).order_by(JobRow.id)
    jobs = session.scalars(found.with_for_update()).all()
    for job in jobs:
        session.expunge(job)
        _refuse_unfit(job)
    move_jobs(session, [job.id for job in jobs], now=now)
    changed = update(SweepRow).where(SweepRow.id == sweep_id).values(deleted_at=now, version=SweepRow.version + 1)
    session.execute(changed, execution_options=NO_SYNC)


def restore_sweep(session: Session, sweep_id: str) -> None:
    """Take a sweep out of the trash, and the jobs that went with it.

    Raises:
        SweepNotFound: there is no such sweep (any more).

    """
    sweep = _lock_sweep(session, sweep_id)
    if sweep.deleted_at is None:
        return
    went = select(JobRow.id).where(JobRow.sweep_id == sweep_id, JobRow.deleted_at == sweep.deleted_at)
    _take_back(session, list(session.scalars(went)), sweep.deleted_at)
    changed = update(SweepRow).where(SweepRow.id == sweep_id).values(deleted_at=None, version=SweepRow.version + 1)
    session.execute(changed, execution_options=NO_SYNC)


def _lock_sweep(session: Session, sweep_id: str) -> SweepRow:
    sweep = session.scalar(select(SweepRow).where(SweepRow.id == sweep_id).with_for_update())
    if sweep is None:
        raise SweepNotFound(f"there is no sweep {sweep_id}")
    session.expunge(sweep)
    return sweep


def delete_artifact(session: Session, job_id: str, name: str, *, now: float) -> None:
    """Move one artifact of an ended job to the trash.

    Raises:
        JobNotFound, ArtifactNotFound: there is no such job or artifact.
        WrongState: the job has not ended, is pinned, or is in the trash itself.

    """
    job = lock_job(session, job_id)
    refuse_deleted(job)
    _refuse_unfit(job)
    row = _artifact(session, job_id, name)
    if row.deleted_at is None:
        _set_artifact(session, row.id, now)


def restore_artifact(session: Session, job_id: str, name: str) -> ArtifactRow:
    """Take one artifact out of the trash, and return it.

    Raises:
        JobNotFound, ArtifactNotFound: there is no such job or artifact (any more).
        WrongState: the job is in the trash itself.

    """
    refuse_deleted(lock_job(session, job_id))
    _set_artifact(session, _artifact(session, job_id, name).id, None)
    return artifacts.named(session, job_id, name)


def deleted_jobs(session: Session, *, after: str | None, limit: int) -> list[JobRow]:
    """Return jobs in the trash, the newest first, from behind the job *after*.

    Trials of a sweep that is there too come back with that, and are left out.
    """
    with_sweep = exists().where(SweepRow.id == JobRow.sweep_id, SweepRow.deleted_at.is_not(None))
    gone = select(JobRow).where(JobRow.deleted_at.is_not(None), JobRow.purged_at.is_(None), ~with_sweep)
    gone = gone if after is None else gone.where(JobRow.id < after)
    return list(session.scalars(gone.order_by(JobRow.id.desc()).limit(limit)))


def deleted_artifacts(session: Session, *, after: str | None, limit: int) -> list[ArtifactRow]:
    """Return artifacts in the trash whose jobs are outside of it, the newest first.

    They come from behind the artifact *after*.
    """
    gone = select(ArtifactRow).join(JobRow, JobRow.id == ArtifactRow.job_id)
    gone = gone.where(ArtifactRow.deleted_at.is_not(None), JobRow.deleted_at.is_(None))
    gone = gone if after is None else gone.where(ArtifactRow.id < after)
    return list(session.scalars(gone.order_by(ArtifactRow.id.desc()).limit(limit)))


def _artifact(session: Session, job_id: str, name: str) -> Any:
    wanted = select(ArtifactRow.id, ArtifactRow.deleted_at).where(ArtifactRow.job_id == job_id)
    row = session.execute(wanted.where(ArtifactRow.name == name).with_for_update()).one_or_none()
    if row is None:
        raise ArtifactNotFound(f"job {job_id} has no artifact named {name!r}")
    return row


def _set_artifact(session: Session, artifact_id: str, at: float | None) -> None:
    changed = update(ArtifactRow).where(ArtifactRow.id == artifact_id).values(deleted_at=at)
    session.execute(changed, execution_options=NO_SYNC)


def delete_model(session: Session, reference: ModelRef, *, now: float) -> None:
    """Move a registered model to the trash; again changes nothing.

    Raises:
        ModelNotFound: there is no such model.
        InUse: a job or a sweep outside of the trash names it.

    """
    row = _model(session, reference)
    if row.deleted_at is not None:
        return
    if named_by := [str(one) for one in references.users(session, str(reference))]:
        raise InUse(str(reference), named_by, hint="delete those first; a model is kept for as long as a spec names it")
    _set_model(session, row.id, now)


def restore_model(session: Session, reference: ModelRef) -> ModelRow:
    """Take a model out of the trash, and return it.

    Raises:
        ModelNotFound: there is no such model (any more).

    """
    _set_model(session, _model(session, reference).id, None)
    found = model_registry.find(session, reference)
    assert found is not None, "its row is locked"
    return found


def _model(session: Session, reference: ModelRef) -> Any:
    wanted = select(ModelRow.id, ModelRow.deleted_at, ModelRow.key, ModelRow.size_bytes)
    same = wanted.where(ModelRow.name == reference.name, ModelRow.sha256 == reference.sha256)
    row = session.execute(same.with_for_update()).one_or_none()
    if row is None:
        raise ModelNotFound(f"there is no model {reference}")
    return row


def _set_model(session: Session, model_id: str, at: float | None) -> None:
    changed = update(ModelRow).where(ModelRow.id == model_id).values(deleted_at=at)
    session.execute(changed, execution_options=NO_SYNC)


def _exists(session: Session, *conditions: Any) -> bool:
    return bool(session.scalar(select(exists().where(*conditions))))


# Emptying the trash.


def expired_jobs(session: Session, *, before: float, limit: int = 20) -> list[str]:
    """Return jobs to purge, and those whose purge has begun."""
    up = (JobRow.deleted_at < before) | JobRow.purged_at.is_not(None)
    needed = needed_by_child(JobRow)
    found = select(JobRow.id).where(JobRow.deleted_at.is_not(None), up, ~needed).order_by(JobRow.deleted_at)
    return list(session.scalars(found.limit(limit)))


def begin_purge(session: Session, job_id: str, *, before: float, now: float) -> bool:
    """Take a job away from everybody, for good; False when somebody has restored it."""
    gone = update(JobRow).where(JobRow.id == job_id, JobRow.deleted_at < before, JobRow.purged_at.is_(None))
    changed = gone.values(purged_at=now, version=JobRow.version + 1)
    if session.connection().execute(changed).rowcount:
        return True
    return _exists(session, JobRow.id == job_id, JobRow.purged_at.is_not(None))


def purge_job(session: Session, job_id: str, *, now: float) -> None:
    """Delete the job's rows in every table, and mark its keys."""
    _mark_artifacts(session, ArtifactRow.job_id == job_id, now=now)
    for rows, column in _pointing_to(table(JobRow)):
        if column.nullable:
            session.execute(update(rows).where(column == job_id).values({column.name: None}))
        else:
            session.execute(delete(rows).where(column == job_id))
    _forget_keys(session, [job_id])
    session.execute(delete(JobRow).where(JobRow.id == job_id), execution_options=NO_SYNC)


def _forget_keys(session: Session, made: list[str]) -> None:
    """Delete the idempotency keys of what goes: the same key makes something new again."""
    session.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.made_id.in_(made)), execution_options=NO_SYNC)


def _pointing_to(target: Table) -> Iterator[tuple[Table, Any]]:
    """Yield every table with a foreign key to *target*, and its column."""
    for rows in Base.metadata.sorted_tables:
        for column in rows.columns:
            if any(key.column.table is target for key in column.foreign_keys):
                yield rows, column


def _mark_artifacts(session: Session, *which: Any, now: float) -> None:
    keys = session.execute(select(ArtifactRow.key, ArtifactRow.size_bytes).where(*which)).all()
    garbage.mark(session, [(row.key, row.size_bytes) for row in keys], now=now)


def purge_artifacts(session: Session, *which: Any, now: float) -> int:
    """Delete artifacts, and mark their keys; return their number."""
    _mark_artifacts(session, *which, now=now)
    return int(session.execute(delete(ArtifactRow).where(*which), execution_options=NO_SYNC).rowcount)  # type: ignore[attr-defined]


def purge_small(session: Session, *, before: float, now: float, limit: int = 100) -> int:
    """Purge artifacts, models and sweeps; return their number.

    A model that a spec names again is taken out of the trash, and a sweep goes when its jobs have gone.
    """
    old = select(ArtifactRow.id).where(ArtifactRow.deleted_at < before).limit(limit)
    number = purge_artifacts(session, ArtifactRow.id.in_(list(session.scalars(old))), now=now)
    models = select(ModelRow).where(ModelRow.deleted_at < before).limit(limit).with_for_update(skip_locked=True)
    for model in session.scalars(models).all():
        session.expunge(model)
        number += _purge_model(session, model, now=now)
    jobless = ~exists().where(JobRow.sweep_id == SweepRow.id)
    sweeps = list(session.scalars(select(SweepRow.id).where(SweepRow.deleted_at < before, jobless).limit(limit)))
    session.execute(delete(SweepTrialRow).where(SweepTrialRow.sweep_id.in_(sweeps)), execution_options=NO_SYNC)
    _forget_keys(session, sweeps)
    session.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.made_id.in_(sweeps)), execution_options=NO_SYNC)
    session.execute(delete(SweepRow).where(SweepRow.id.in_(sweeps)), execution_options=NO_SYNC)
    return number + len(sweeps)


def _purge_model(session: Session, model: ModelRow, *, now: float) -> bool:
    if any(references.users(session, str(ModelRef(model.name, model.sha256)), limit=1)):
        _set_model(session, model.id, None)
        return False
    garbage.mark(session, [(model.key, model.size_bytes)], now=now)
    session.execute(delete(ModelRow).where(ModelRow.id == model.id), execution_options=NO_SYNC)
    return True
