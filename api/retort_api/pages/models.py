"""Show registered models with their lineage, and register, delete and restore them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import File, Form, Request, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from retort import dataset_ref, model_ref
from retort.access import Principal, Scope
from retort.data import weights
from retort.db import artifacts, jobs, model_registry, references
from retort.db.models import ArtifactRow, JobRow
from retort.db.session import database_now
from retort.errors import UserError

from retort_api.deps import AppState, Caller, Serving, is_job_id
from retort_api.errors import BadParameter
from retort_api.http import Cursor, Deleted, Limit
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render, see_other
from retort_api.pages.sent_files import FILE_LIMIT, whole_file
from retort_api.receiving import Spool
from retort_api.routes import models, trash
from retort_api.schemas.jobs import Artifact
from retort_api.schemas.models import Model

router = PageRouter()

_PATTERN = model_ref.NAME.replace("-]", r"\-]")
"""As browsers read patterns."""
_MOST_USERS = 50
_LOOKED_AT = 1000
"""Jobs, the newest, among which a model's users are looked for."""
_MOST_CLASSES = 1000
ModelFormName = Annotated[str, Field(pattern=rf"^{model_ref.NAME}$")]


class ModelVersionForm(BaseModel):
    """The form that names one model by its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class PublishedModelForm(BaseModel):
    """The form that names an artifact to register."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ModelFormName
    job: Annotated[str, Field(max_length=200)]
    artifact: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]


@dataclass(frozen=True, slots=True)
class ModelLineage:
    """Where a model comes from, what was made of it, and who uses it."""

    model: Model
    job: JobRow | None
    """That has trained it, where the caller may see it."""
    data: str | None
    """What that job's spec says of its data: a reference, or a folder."""
    teacher: str | None
    exports: tuple[Artifact, ...]
    users: tuple[references.SpecUser, ...]

    @property
    def data_page(self) -> str | None:
        """Page of the data, where it is a registered dataset."""
        found = dataset_ref.parse(self.data or "")
        return None if found is None else f"/data/{found.name}?version={found.sha256}"

    @property
    def teacher_page(self) -> str | None:
        """Page of the teacher, where it is a registered model."""
        found = model_ref.parse(self.teacher or "")
        return None if found is None else f"/models/{found.name}"

    @property
    def short(self) -> str:
        """Name and first digits of the digest, which specs and the command line take."""
        return f"{self.model.name}@{self.model.sha256[:12]}"


@router.page("/models", scope=Scope.MODELS_READ)
def show_models(
    *, request: Request, service: Serving, caller: Caller, deleted: Deleted = False, limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:  # fmt: skip
    """Show the registered models, and the forms that register one."""
    found = models.list_models(
        service=service, caller=caller, response=Response(), deleted=deleted, limit=limit, cursor=cursor
    )  # fmt: skip
    return render(
        request, "models.html", title="Models", current="models", models=found.data, cursor=found.next_cursor,
        deleted=deleted, now=time.time(), pattern=_PATTERN, most_bytes=FILE_LIMIT,
    )  # fmt: skip


@router.form("/models", scope=Scope.MODELS_WRITE, limit=FILE_LIMIT)
def send_model(
    *, request: Request, service: Serving, caller: Caller, weights_file: Annotated[UploadFile, File(alias="weights")],
    name: Annotated[str, Form(pattern=rf"^{model_ref.NAME}$")],
    architecture: Annotated[str, Form(max_length=16_384)] = "",
    class_names: Annotated[str, Form(max_length=110_000)] = "",
) -> Response:  # fmt: skip
    """Register weights that a form has sent."""
    names = [line.strip() for line in class_names.splitlines() if line.strip()]
    if len(names) > _MOST_CLASSES or any(len(one) > 100 for one in names):
        raise BadParameter("class names", "are too many or too long", hint="one a line, at most 1000 of 100 characters")
    models.check_room(service, caller, weights_file.size or 0)
    with whole_file(service, weights_file) as received:
        made, created = models.register_file(
            service, caller, name, received.path, (architecture.strip() or None, names)
        )  # fmt: skip
    return _registered(request, made, created=created)


@router.form("/models/published", scope=Scope.MODELS_WRITE)
def register_published_model(
    request: Request, service: Serving, caller: Caller, wanted: Annotated[PublishedModelForm, Form()]
) -> Response:
    """Register a network that a job has published."""
    job_id = wanted.job.strip().rstrip("/").rpartition("/")[2]  # the address of its page will do
    if not is_job_id(job_id):
        raise jobs.JobNotFound(f"there is no job {wanted.job!r}", hint="its page and retort ls show its id: job_…")
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
    row = _published(service, caller, job_id, wanted.artifact)
    classes = _classes_of(service, row)
    with service.begin(caller) as session:
        made = Model.of(model_registry.register_published(
            session, wanted.name, row, project=job.project, owner=caller.owner, classes=classes,
            now=database_now(session),
        ))  # fmt: skip
    return _registered(request, made, created=True)


def _published(service: AppState, caller: Principal, job_id: str, name: str) -> ArtifactRow:
    with service.read(caller) as session:
        row = artifacts.named(session, job_id, name)
    if row.deleted_at is not None or not row.name.endswith(".pt"):
        raise UserError(f"{name!r} is no network that can be registered", hint="name a .pt file", code="bad_model")
    return row


def _classes_of(service: AppState, row: ArtifactRow) -> list[str]:
    """Look at a published network as at one from outside; return its classes."""
    spool = Spool(service.spool)
    try:
        for piece in service.store.read(row.key):
            spool.take(piece)
    except BaseException:
        spool.close()
        raise
    with spool.taken() as received:
        return list(weights.check_checkpoint(received.path, row.name) or ())


def _registered(request: Request, made: Model, *, created: bool) -> Response:
    said = f"{made.name} is registered" if created else f"{made.name} was registered already"
    return see_other(request, f"/models/{made.name}", said)


@router.page("/models/{name}", scope=Scope.MODELS_READ)
def show_model(request: Request, service: Serving, caller: Caller, name: str) -> Response:
    """Show all that is registered by a name: figures, lineage, exports and users."""
    versions = models.get_model(service, caller, name).data
    with service.read(caller) as session:
        users = references.users_by_digest(session, f"{model_ref.PREFIX}{name}@sha256:", limit=_LOOKED_AT)
    shown = [_lineage(service, caller, one, users.get(one.sha256, [])[:_MOST_USERS]) for one in versions]
    return render(request, "model.html", title=name, current="models", name=name, versions=shown, most=_MOST_USERS)


def _lineage(
    service: AppState, caller: Principal, model: Model, users: Sequence[references.SpecUser]
) -> ModelLineage:  # fmt: skip
    with service.read(caller) as session:
        job, exports = None, []
        if model.job_id is not None and Scope.JOBS_READ in caller.scopes:
            job = jobs.get(session, model.job_id)
            exports = [one for one in artifacts.of_job(session, job.id) if _is_export(one, model)]
    spec: dict[str, Any] = {} if job is None else job.spec
    data = (spec.get("data") or {}).get("dataset") or (spec.get("data") or {}).get("path")
    teacher = (spec.get("teacher") or {}).get("weights") if model.role == "student" else None
    return ModelLineage(model, job, data, teacher, tuple(Artifact.of(one) for one in exports), tuple(users))


def _is_export(row: ArtifactRow, model: Model) -> bool:
    return row.deleted_at is None and row.role == model.role and "format" in row.metadata_


@router.form("/models/{name}/delete", scope=Scope.MODELS_WRITE)
def delete_model_by_form(
    request: Request, service: Serving, caller: Caller, name: str, wanted: Annotated[ModelVersionForm, Form()]
) -> Response:
    """Move a registered model to the trash."""
    trash.delete_model(service, caller, name, wanted.sha256)
    return see_other(request, "/models", f"{name} is in the trash, from which it can be restored")


@router.form("/models/{name}/restore", scope=Scope.MODELS_WRITE)
def restore_model_by_form(
    request: Request, service: Serving, caller: Caller, name: str, wanted: Annotated[ModelVersionForm, Form()]
) -> Response:
    """Take a model out of the trash."""
    trash.restore_model(service, caller, name, wanted.sha256)
    return see_other(request, f"/models/{name}", f"{name} is restored")
