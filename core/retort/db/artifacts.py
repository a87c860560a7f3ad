"""The published files of jobs: which there are, and where their bytes lie."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from retort.db import events
from retort.db.base import ARTIFACT_PREFIX, new_id
from retort.db.lease import Lease, lock
from retort.db.models import Artifact
from retort.db.statements import add_or_replace, table
from retort.errors import UserError

_ARTIFACTS = table(Artifact)
_KNOWN = select(_ARTIFACTS.c.id, _ARTIFACTS.c.sha256, _ARTIFACTS.c.role).where(
    _ARTIFACTS.c.job_id == bindparam("job"), _ARTIFACTS.c.name == bindparam("name")
)


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
    """Publish *artifact* and announce it; the job's earlier file of this name, if any, is replaced.

    Publishing the same bytes under the same name again changes nothing.

    Returns:
        Its id; None when the lease is no longer held.

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
    row = {**about, "job_id": lease.job_id, "attempt": lease.attempt, "created_at": now}
    add_or_replace(session, Artifact, [row], key=("job_id", "name"), keep=("id",))
    announced = {name: about[name] for name in ("id", "name", "role", "size_bytes", "sha256", "media_type")}
    events.append(session, lease.job_id, seq=seq, attempt=lease.attempt, kind="artifact", at=now, data=announced)
    return artifact_id


def of_job(session: Session, job_id: str) -> list[Artifact]:
    """Return the job's artifacts by name."""
    return list(session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)))


def named(session: Session, job_id: str, name: str) -> Artifact:
    """Return the job's artifact of that name.

    Raises:
        ArtifactNotFound: there is none.

    """
    found = session.scalar(select(Artifact).where(Artifact.job_id == job_id, Artifact.name == name))
    if found is None:
        raise ArtifactNotFound(f"job {job_id} has no artifact named {name!r}")
    return found


def get(session: Session, artifact_id: str) -> Artifact:
    """Return the artifact of that id.

    Raises:
        ArtifactNotFound: there is none.

    """
    found = session.get(Artifact, artifact_id)
    if found is None:
        raise ArtifactNotFound(f"there is no artifact {artifact_id}")
    return found
