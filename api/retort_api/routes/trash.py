"""Routes that delete jobs, sweeps, artifacts and models, and restore them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Path, Response
from retort import model_ref
from retort.access import Principal, Scope
from retort.db import model_registry, sweeps, trash
from retort.db.artifacts import ArtifactNotFound
from retort.db.model_registry import ModelNotFound
from retort.db.session import database_now
from retort.model_ref import ModelRef

from retort_api.deps import AppState, Caller, JobId, Router, Serving, SweepId
from retort_api.errors import documented
from retort_api.routes.jobs import read_job
from retort_api.schemas.jobs import Artifact, Job
from retort_api.schemas.models import Model
from retort_api.schemas.sweeps import Sweep

router = Router("trash")

NO_CONTENT = 204
_GONE: dict[int | str, dict[str, Any]] = {NO_CONTENT: {"description": "It is in the trash."}}
_SHARED = ("wrong_state", "bad_parameter", "database_unavailable")
Name = Annotated[str, Path(description="Such as `student.pt`; may contain slashes.")]
ModelName = Annotated[str, Path(description="Such as `street-teacher`.")]
Digest = Annotated[str, Path(description="In hex, or its first 8 digits or more where they tell it apart.")]


@router.delete(
    "/v1/jobs/{job_id}",
    scope=Scope.JOBS_WRITE,
    status_code=NO_CONTENT,
    responses={**_GONE, **documented("job_not_found", "in_use", *_SHARED)},
)
def delete_job(service: Serving, caller: Caller, job_id: JobId) -> Response:
    """Move a job that has ended to the trash, with all that it published. Again is harmless.

    It can be restored until `RETORT_KEEP_TRASH_S` is over. The models that it has trained go and come back with it, but
    for those that a spec outside of the trash names.
    """
    with service.begin(caller) as session:
        trash.delete_job(session, job_id, now=database_now(session))
    return Response(None, NO_CONTENT)


@router.post(
    "/v1/jobs/{job_id}/restore", scope=Scope.JOBS_WRITE, response_model=Job,
    responses=documented("job_not_found", *_SHARED)
)  # fmt: skip
def restore_job(service: Serving, caller: Caller, job_id: JobId, response: Response) -> Job:
    """Take a job out of the trash. Again is harmless."""
    with service.begin(caller) as session:
        trash.restore_job(session, job_id)
    return read_job(service, caller, job_id, response)


@router.delete(
    "/v1/sweeps/{sweep_id}",
    scope=Scope.JOBS_WRITE,
    status_code=NO_CONTENT,
    responses={**_GONE, **documented("sweep_not_found", "in_use", *_SHARED)},
)
def delete_sweep(service: Serving, caller: Caller, sweep_id: SweepId) -> Response:
    """Move a sweep that has ended to the trash, with its jobs. Again is harmless."""
    with service.begin(caller) as session:
        trash.delete_sweep(session, sweep_id, now=database_now(session))
    return Response(None, NO_CONTENT)


@router.post(
    "/v1/sweeps/{sweep_id}/restore", scope=Scope.JOBS_WRITE, response_model=Sweep,
    responses=documented("sweep_not_found", *_SHARED)
)  # fmt: skip
def restore_sweep(service: Serving, caller: Caller, sweep_id: SweepId) -> Sweep:
    """Take a sweep out of the trash, and the jobs that went with it. Again is harmless."""
    with service.begin(caller) as session:
        trash.restore_sweep(session, sweep_id)
        row, listed = sweeps.get(session, sweep_id), sweeps.trials(session, sweep_id)
        return Sweep.whole(row, sweeps.bests(session, [sweep_id]).get(sweep_id), listed)


@router.delete(
    "/v1/jobs/{job_id}/artifacts/{name:path}",
    scope=Scope.JOBS_WRITE,
    status_code=NO_CONTENT,
    responses={**_GONE, **documented("job_not_found", "artifact_not_found", *_SHARED)},
)
def delete_artifact(service: Serving, caller: Caller, job_id: JobId, name: Name) -> Response:
    """Move one artifact of a job that has ended to the trash. Again is harmless."""
    with service.begin(caller) as session:
        trash.delete_artifact(session, job_id, _printable(job_id, name), now=database_now(session))
    return Response(None, NO_CONTENT)


@router.post(
    "/v1/jobs/{job_id}/artifacts/{name:path}/restore",
    scope=Scope.JOBS_WRITE,
    response_model=Artifact,
    responses=documented("job_not_found", "artifact_not_found", *_SHARED),
)
def restore_artifact(service: Serving, caller: Caller, job_id: JobId, name: Name) -> Artifact:
    """Take one artifact out of the trash. Again is harmless."""
    with service.begin(caller) as session:
        return Artifact.of(trash.restore_artifact(session, job_id, _printable(job_id, name)))


def _printable(job_id: str, name: str) -> str:
    if not name.isprintable():
        raise ArtifactNotFound(f"job {job_id} has no artifact named {name!r}")
    return name


@router.delete(
    "/v1/models/{name}/{sha256}",
    scope=Scope.MODELS_WRITE,
    status_code=NO_CONTENT,
    responses={**_GONE, **documented("model_not_found", "in_use", "bad_parameter", "database_unavailable")},
)
def delete_model(service: Serving, caller: Caller, name: ModelName, sha256: Digest) -> Response:
    """Move a registered model to the trash. Again is harmless.

    It is refused, with who needs it, for as long as the spec of a job or sweep outside of the trash names it.
    """
    reference = _reference(service, caller, name, sha256)
    with service.database.begin(project=caller.project) as session:
        trash.delete_model(session, reference, now=database_now(session))
    return Response(None, NO_CONTENT)


@router.post(
    "/v1/models/{name}/{sha256}/restore",
    scope=Scope.MODELS_WRITE,
    response_model=Model,
    responses=documented("model_not_found", "bad_parameter", "database_unavailable"),
)
def restore_model(service: Serving, caller: Caller, name: ModelName, sha256: Digest) -> Model:
    """Take a model out of the trash. Again is harmless."""
    reference = _reference(service, caller, name, sha256)
    with service.database.begin(project=caller.project) as session:
        return Model.of(trash.restore_model(session, reference))


def _reference(service: AppState, caller: Principal, name: str, digits: str) -> ModelRef:
    """Return the one model, in the trash or not, that *name* and the beginning of its digest mean."""
    if not re.fullmatch(model_ref.NAME, name):
        raise ModelNotFound(f"there is no model named {name!r}")
    with service.database.read(project=caller.project) as session:
        digests = model_registry.digests(session, name)
    found = model_ref.complete(f"{name}@{digits}", lambda _: digests)
    if found is None:
        raise ModelNotFound(f"there is no model named {name!r} with the digest {digits!r}", hint=model_ref.FORM)
    return found
