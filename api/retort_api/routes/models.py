"""Routes of registered models: register, list, show, download."""

from __future__ import annotations

import re
from pathlib import Path as File
from tempfile import TemporaryFile
from typing import Annotated, Any

from fastapi import Header, Path, Query, Request, Response
from pydantic import StringConstraints
from retort import model_ref
from retort.access import Principal, Scope
from retort.checkpoints import states
from retort.data import weights
from retort.db import model_registry, quotas
from retort.db.model_registry import ModelNotFound, NewModel
from retort.db.models import MODEL_PREFIX, ModelRow
from retort.db.session import database_now
from retort.errors import UserError
from starlette.concurrency import run_in_threadpool

from retort_api import file_response
from retort_api.deps import AppState, Caller, Router, Serving
from retort_api.errors import CREATED, OK, documented
from retort_api.file_response import StoredFile
from retort_api.http import Cursor, Deleted, Limit, next_cursor, parse_cursor, trash_query
from retort_api.receiving import as_storage_full, receive
from retort_api.routes.uploads import UPLOAD_ID, whole
from retort_api.schemas.models import Model, ModelPage, Models

router = Router("models")

_BINARY = "application/octet-stream"
_BODY = {"required": True, "content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}}}
_LOCATION = {"Location": {"description": "Address of the model's name.", "schema": {"type": "string"}}}
_DOWNLOAD = file_response.responses("model_not_found")
_LONGEST_ARCHITECTURE, _MOST_CLASSES = 16_384, 1000
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
_NAME = rf"^{model_ref.NAME}$"


@router.post(
    "/v1/models", scope=Scope.MODELS_WRITE,
    status_code=CREATED,
    response_model=Model,
    openapi_extra={"requestBody": {**_BODY, "required": False}},
    responses={
        CREATED: {"description": "The model is registered.", "headers": _LOCATION},
        OK: {"model": Model, "description": "It was registered by this name already.", "headers": _LOCATION},
        **documented(
            "body_too_large", "unsupported_media_type", "bad_model", "bad_parameter", "upload_not_found",
            "upload_conflict", "quota_exceeded", "storage_full", "store_unavailable", "database_unavailable",
        ),
    },
)  # fmt: skip
async def register_model(
    *,
    service: Serving,
    caller: Caller,
    request: Request,
    response: Response,
    name: Annotated[str, Query(pattern=_NAME, description="Later models may have the same name.")],
    upload: Annotated[
        str | None, Query(pattern=UPLOAD_ID, description="A complete upload, which stands for the body.")
    ] = None,
    architecture: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=_LONGEST_ARCHITECTURE,
            description="What a .safetensors or .onnx file is of: such as `yolo11n`, or the YAML of it.",
        ),
    ] = None,
    class_name: Annotated[
        list[ClassName] | None, Query(max_length=_MOST_CLASSES, description="Its classes in order, one each.")
    ] = None,
) -> Any:
    """Register weights from outside: the body is a file of at most 1 GiB, or is named as an upload.

    A .pt file's pickle is read by opcodes against a list of names, and never run: a file that holds anything else than
    a detector is refused. A .safetensors or .onnx file says in its metadata, or is told here, which network it is; what
    is told here becomes part of it, and of its digest. Sending the same file again is harmless.
    """
    if upload is None:
        _expect_bytes(request)
        declared = request.headers.get("content-length", "")
        await run_in_threadpool(check_room, service, caller, int(declared) if declared.isdecimal() else 0)
        received = await receive(request, service.spool, weights.LARGEST_BYTES)
    else:
        received = await run_in_threadpool(whole, service, caller, upload, weights.LARGEST_BYTES)
    with received:
        told = architecture, class_name or []
        model, created = await run_in_threadpool(register_file, service, caller, name, received.path, told)
    response.status_code = CREATED if created else OK
    response.headers["Location"] = model.links.self
    return model


def check_room(service: AppState, caller: Principal, size_bytes: int) -> None:
    """Refuse a file for which there is no room, or which the quota does not allow."""
    service.disk.check(size_bytes)
    with service.read(caller) as session:
        quotas.check_bytes(session, caller.project, more=size_bytes)


@router.readable(
    "/v1/models",
    scope=Scope.MODELS_READ,
    response_model=ModelPage,
    responses=documented("bad_parameter", "database_unavailable"),
)
def list_models(
    *,
    service: Serving,
    caller: Caller,
    response: Response,
    deleted: Deleted = False,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> ModelPage:
    """List registered models, newest first."""
    with service.read(caller) as session:
        found = model_registry.page(session, after=parse_cursor(cursor, MODEL_PREFIX), limit=limit + 1, deleted=deleted)
        shown = tuple(Model.of(row) for row in found[:limit])
    cursor = next_cursor(response, found, limit, prefix=MODEL_PREFIX, path="/v1/models", query=trash_query(deleted))
    return ModelPage(data=shown, next_cursor=cursor, has_more=cursor is not None)


@router.readable(
    "/v1/models/{name}",
    scope=Scope.MODELS_READ,
    response_model=Models,
    responses=documented("model_not_found", "bad_parameter", "database_unavailable"),
)
def get_model(
    service: Serving, caller: Caller, name: Annotated[str, Path(description="Such as `street-teacher`.")]
) -> Models:
    """Show all that is registered by a name, newest first."""
    if not re.fullmatch(model_ref.NAME, name):
        raise ModelNotFound(f"there is no model named {name!r}")
    with service.database.read(project=caller.project) as session:
        return Models(data=tuple(Model.of(row) for row in model_registry.named(session, name)))


@router.head(
    "/v1/models/{name}/{sha256}",
    scope=Scope.MODELS_READ,
    responses=_DOWNLOAD,
    operation_id="describe_model_file",
    summary="Describe Model File",
)
@router.get("/v1/models/{name}/{sha256}", scope=Scope.MODELS_READ, responses=_DOWNLOAD, operation_id="download_model")
def download_model(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    name: Annotated[str, Path(description="Such as `street-teacher`.")],
    sha256: Annotated[str, Path(description="In hex, or its first 8 digits or more where they tell it apart.")],
    range_: Annotated[str | None, Header(alias="Range", description="One range of bytes.")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Download a registered model, or the rest of it, as an artifact is downloaded."""
    with service.database.read(project=caller.project) as session:
        row = _named(model_registry.versions(session, name), name, sha256)
    file = StoredFile(f"{name}.pt", row.sha256, row.size_bytes, _BINARY, row.key)
    return file_response.send(
        request, service.store, file, range_=range_, if_range=if_range, if_none_match=if_none_match
    )


def _named(found: list[ModelRow], name: str, digits: str) -> ModelRow:
    """Return the one of a name's models whose digest begins with *digits*."""
    reference = model_ref.complete(f"{name}@{digits}", lambda _: [row.sha256 for row in found])
    if reference is None:
        raise ModelNotFound(f"there is no model named {name!r} with the digest {digits!r}", hint=model_ref.FORM)
    return next(row for row in found if row.sha256 == reference.sha256)


def _expect_bytes(request: Request) -> None:
    """Refuse what is announced as something else before any of it is read."""
    named = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if named != _BINARY:
        told = f"{named!r} is not understood" if named else "the request has no Content-Type"
        raise UserError(told, code="unsupported_media_type", hint=f"send Content-Type: {_BINARY}")


def register_file(
    service: AppState, caller: Principal, name: str, file: File, told: tuple[str | None, list[str]]
) -> tuple[Model, bool]:
    """Register a file of weights by a name, with the architecture and classes that are *told*."""
    architecture, names = told
    if architecture is None and not names:
        return _keep(service, caller, name, file)
    with as_storage_full(), TemporaryFile(dir=service.spool) as copy:
        whole = File(f"/dev/fd/{copy.fileno()}")  # it goes with the process, however that ends
        states.completed(file, whole, "the body", architecture_text=architecture, names=names)
        return _keep(service, caller, name, whole)


def _keep(service: AppState, caller: Principal, name: str, file: File) -> tuple[Model, bool]:
    classes = weights.check_checkpoint(file, "the body")
    stored = service.store.put(file)
    model = NewModel(
        name=name, sha256=stored.sha256, size_bytes=stored.size_bytes, key=stored.key, project=caller.project,
        owner=caller.owner,
        classes=None if classes is None else list(classes),
    )  # fmt: skip
    with service.begin(caller) as session:
        created = model_registry.register(session, model, now=database_now(session))
        row = model_registry.find(session, model_ref.ModelRef(name, stored.sha256), project=caller.project)
        assert row is not None, "it is there now"
        return Model.of(row), created
