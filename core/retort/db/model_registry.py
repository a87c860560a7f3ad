"""Registered models: weights that later jobs may name by digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from retort.access import DEFAULT_OWNER, DEFAULT_PROJECT
from retort.constants import MAP, MAP50, Role
from retort.db import events, garbage
from retort.db.artifacts import NewArtifact
from retort.db.models import MODEL_PREFIX, ArtifactRow, JobRow, ModelRow, new_id
from retort.db.session import NO_SYNC, add_or_ignore
from retort.db.transitions import Lease
from retort.errors import UserError
from retort.model_ref import ModelRef

TRAINED: dict[str, str] = {Role.TEACHER: "teacher.pt", Role.STUDENT: "student.pt"}
"""Artifacts of a job that become models, by role."""


class ModelNotFound(UserError):
    """There is no such registered model."""

    code = "model_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """Weights whose bytes lie in the store under *key*."""

    name: str
    sha256: str
    size_bytes: int
    key: str
    project: str = DEFAULT_PROJECT
    owner: str = DEFAULT_OWNER
    role: str | None = None
    architecture: str | None = None
    classes: list[str] | None = None
    imgsz: int | None = None
    metrics: dict[str, Any] | None = None
    dataset_digest: str | None = None
    job_id: str | None = None


def register(session: Session, model: NewModel, *, now: float) -> bool:
    """Register *model*, so that later jobs of its project can name it.

    False when these bytes are known by this name already; then they leave the trash, and nothing else changes.

    Raises:
        BytesCollected: the bytes are no longer in the store; put them there again.

    """
    row = {"id": new_id(MODEL_PREFIX), **asdict(model), "created_at": now}
    garbage.secure(session, [model.key])
    if add_or_ignore(session, ModelRow, row, key=("project", "name", "sha256")):
        return True
    same = (ModelRow.project == model.project, ModelRow.name == model.name, ModelRow.sha256 == model.sha256)
    session.execute(
        update(ModelRow).where(*same, ModelRow.deleted_at.is_not(None)).values(deleted_at=None),
        execution_options=NO_SYNC,
    )
    return False


def register_trained(session: Session, lease: Lease, artifact: NewArtifact, *, now: float) -> bool:
    """Register a network trained by a job as ``<job name>-<role>``.

    The job's events say what to call it.

    Returns:
        False when it is registered already, which an equal job may have done, or is no network of teacher or student.

    """
    if TRAINED.get(artifact.role) != artifact.name:
        return False
    about = select(JobRow.name, JobRow.project, JobRow.owner).where(JobRow.id == lease.job_id)
    job = session.execute(about).one()
    model = replace(
        _trained(f"{job.name}-{artifact.role}", artifact, lease.job_id), project=job.project, owner=job.owner
    )
    fresh = register(session, model, now=now)
    events.log(session, lease, f"registered as {ModelRef(model.name, model.sha256)}", "info", now)
    return fresh


def register_published(
    session: Session, name: str, published: ArtifactRow, *, project: str, owner: str, classes: list[str], now: float
) -> ModelRow:
    """Register a network that a job has published, by a name, with its lineage.

    Its bytes have been looked at: it is a detector of *classes*.
    """
    known = {each.name: getattr(published, each.name) for each in fields(NewArtifact) if each.name != "metadata"}
    artifact = NewArtifact(**known, metadata=published.metadata_)
    model = replace(_trained(name, artifact, published.job_id), project=project, owner=owner, classes=classes)
    register(session, model, now=now)
    row = find(session, ModelRef(name, published.sha256), project=project)
    assert row is not None, "it is there now"
    return row


def _trained(name: str, artifact: NewArtifact, job_id: str) -> NewModel:
    about: Mapping[str, Any] = artifact.metadata
    data: Mapping[str, Any] = about.get("data") or {}
    measured: Mapping[str, Any] = about.get("metrics") or {}
    return NewModel(
        name=name,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        key=artifact.key,
        role=artifact.role,
        architecture=about.get("model"),
        classes=data.get("names"),
        imgsz=about.get("imgsz"),
        metrics={metric: measured[metric] for metric in (MAP50, MAP) if metric in measured} or None,
        dataset_digest=data.get("digest"),
        job_id=job_id,
    )


def find(session: Session, reference: ModelRef, *, project: str | None = None) -> ModelRow | None:
    """Return the model that *reference* names, or None.

    Without a *project* it may be of any: equal names and digests stand for equal bytes.
    """
    query = select(ModelRow).where(ModelRow.name == reference.name, ModelRow.sha256 == reference.sha256)
    return session.scalar((query if project is None else query.where(ModelRow.project == project)).limit(1))


def versions(session: Session, name: str, *, project: str | None = None) -> list[ModelRow]:
    """Return the models registered by *name*, newest first; in one *project*, if given."""
    if not name.isprintable():  # some databases refuse to look for it
        return []
    query = select(ModelRow).where(ModelRow.name == name, ModelRow.deleted_at.is_(None)).order_by(ModelRow.id.desc())
    return list(session.scalars(query if project is None else query.where(ModelRow.project == project)))


def digests(session: Session, name: str) -> list[str]:
    """Return the digests of all models registered by *name*, in the trash or not."""
    return list(session.scalars(select(ModelRow.sha256).where(ModelRow.name == name))) if name.isprintable() else []


def named(session: Session, name: str) -> list[ModelRow]:
    """Return the models registered by *name*, newest first, at least one.

    Raises:
        ModelNotFound: nothing is.

    """
    found = versions(session, name)
    if not found:
        raise ModelNotFound(f"there is no model named {name!r}", hint="retort models lists them")
    return found


def page(session: Session, *, after: str | None = None, limit: int = 50, deleted: bool = False) -> list[ModelRow]:
    """Return a page of at most *limit* models, newest first.

    They are older than the model *after*, and in the trash if they are to be *deleted*, else outside of it.
    """
    where = ModelRow.deleted_at.is_not(None) if deleted else ModelRow.deleted_at.is_(None)
    query = select(ModelRow).where(where).order_by(ModelRow.id.desc()).limit(limit)
    if after is not None:
        query = query.where(ModelRow.id < after)
    return list(session.scalars(query))
