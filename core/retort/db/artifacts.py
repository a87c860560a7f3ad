"""Published files of jobs, and the files that a later attempt resumes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import and_, bindparam, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from retort.db import events, garbage
from retort.db.models import ARTIFACT_PREFIX, ArtifactRow, JobRow, new_id
from retort.db.session import NO_SYNC, add_or_replace, table
from retort.db.transitions import HELD, Lease, held_by, lock
from retort.errors import UserError
from retort.states import TERMINAL, JobState

_ARTIFACTS = table(ArtifactRow)
_KNOWN = select(
    _ARTIFACTS.c.id, _ARTIFACTS.c.sha256, _ARTIFACTS.c.role, _ARTIFACTS.c.key, _ARTIFACTS.c.size_bytes
).where(_ARTIFACTS.c.job_id == bindparam("job"), _ARTIFACTS.c.name == bindparam("name"))


class ArtifactNotFound(UserError):
    """There is no such artifact."""

    code = "artifact_not_found"


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A file whose bytes lie in the store under *key*."""

    name: str
    role: str
    sha256: str
    size_bytes: int
    media_type: str
    key: str
    metadata: dict[str, Any] = field(default_factory=dict)


def record(session: Session, lease: Lease, artifact: NewArtifact, *, now: float) -> str | None:
    """Publish *artifact* and announce it.

    The job's earlier file of this name, if any, is replaced. Publishing the same bytes under the same name again
    changes nothing.

    Returns:
        Its id; None when the lease is no longer held.

    Raises:
        BytesCollected: its bytes are no longer in the store; put them there again.

    """
    if lock(session, lease) is None:
        return None
    wanted = {"job": lease.job_id, "name": artifact.name}
    known = session.connection().execute(_KNOWN, wanted).one_or_none()
    if known is not None and (known.sha256, known.role) == (artifact.sha256, artifact.role):
        return str(known.id)
    seq = events.next_seq(session, lease)
    assert seq is not None, "the row is locked"
    artifact_id = new_id(ARTIFACT_PREFIX) if known is None else str(known.id)
    about = {"id": artifact_id, **asdict(artifact)}
    row = {**about, "job_id": lease.job_id, "attempt": lease.attempt, "created_at": now, "deleted_at": None}
    garbage.secure(session, [artifact.key])
    if known is not None and known.key != artifact.key:
        garbage.mark(session, [(known.key, known.size_bytes)], now=now)
    add_or_replace(session, ArtifactRow, [row], key=("job_id", "name"), keep=("id",))
    announced = {name: about[name] for name in ("id", "name", "role", "size_bytes", "sha256", "media_type")}
    events.append(session, lease.job_id, seq=seq, attempt=lease.attempt, kind="artifact", at=now, data=announced)
    return artifact_id


def of_job(session: Session, job_id: str) -> list[ArtifactRow]:
    """Return the job's artifacts by name."""
    return list(session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == job_id).order_by(ArtifactRow.name)))


def named(session: Session, job_id: str, name: str) -> ArtifactRow:
    """Return the job's artifact of that name.

    Raises:
        ArtifactNotFound: there is none.

    """
    found = session.scalar(select(ArtifactRow).where(ArtifactRow.job_id == job_id, ArtifactRow.name == name))
    if found is None:
        raise ArtifactNotFound(f"job {job_id} has no artifact named {name!r}")
    return found


def get(session: Session, artifact_id: str) -> ArtifactRow:
    """Return the artifact of that id.

    Raises:
        ArtifactNotFound: there is none.

    """
    found = session.get(ArtifactRow, artifact_id)
    if found is None:
        raise ArtifactNotFound(f"there is no artifact {artifact_id}")
    return found


def record_recovery(session: Session, lease: Lease, saved: dict[str, Any], *, now: float) -> bool:
    """Record saved files to resume from; False when the lease is lost.

    *saved* has ``job_id``, ``attempt``, ``stage``, ``epoch`` and ``files``, each with ``path`` (in the working folder),
    ``key`` (in the store), ``sha256`` and ``size_bytes``; ``last`` is true of one that outlives the job's success.
    """
    seq = events.next_seq(session, lease)
    if seq is None:
        return False
    jobs = table(JobRow)
    changed = update(jobs).where(HELD).values(recovery=saved, version=jobs.c.version + 1)
    session.connection().execute(changed, held_by(lease))
    size_bytes = sum(file["size_bytes"] for file in saved["files"])
    told = {"stage": saved["stage"], "epoch": saved["epoch"], "size_bytes": size_bytes}
    events.append(session, lease.job_id, seq=seq, attempt=lease.attempt, kind="saved", at=now, data=told)
    return True


def forget_old_recovery(
    session: Session, *, before: float, succeeded_before: float, limit: int = 100
) -> list[str]:  # fmt: skip
    """Give up the recovery files of old jobs; return job ids.

    At most *limit* jobs lose what they have saved: those that ended before *before*, or succeeded before
    *succeeded_before* and are not pinned. A job that goes on from another's files keeps them.
    """
    child = aliased(JobRow)
    needed = exists().where(child.parent_id == JobRow.id, child.state.not_in(TERMINAL))
    succeeded = JobRow.state == JobState.SUCCEEDED
    over = or_(
        and_(~succeeded, JobRow.finished_at < before),
        and_(succeeded, JobRow.finished_at < succeeded_before, JobRow.keep.is_(False)),
    )
    old = select(JobRow.id).where(JobRow.recovery.is_not(None), over, ~needed)
    # A retry locks its parent first, so that it either finds the files and is seen here, or finds none.
    ids = list(session.scalars(old.limit(limit).with_for_update(skip_locked=True)))
    forgotten = update(JobRow).where(JobRow.id.in_(ids)).values(recovery=None, version=JobRow.version + 1)
    session.execute(forgotten, execution_options=NO_SYNC)
    return ids


def without_recovery(session: Session, job_ids: list[str]) -> list[str]:
    """Return the ended jobs that can no longer be continued.

    They are some of the jobs *job_ids*.
    """
    ended = select(JobRow.id).where(JobRow.id.in_(job_ids), JobRow.state.in_(TERMINAL), JobRow.recovery.is_(None))
    return list(session.scalars(ended))


def saved_keys(session: Session, *, but: str | None = None) -> set[str]:
    """Return the keys of the saved files of all jobs but *but*."""
    wanted = (JobRow.recovery.is_not(None),) if but is None else (JobRow.recovery.is_not(None), JobRow.id != but)
    found = session.scalars(select(JobRow.recovery).where(*wanted))
    return {file["key"] for recovery in found if recovery is not None for file in recovery["files"]}
