"""Routes of datasets: make of an upload, list, show, preview, download, delete."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Header, Path, Query, Request, Response
from retort import dataset_ref
from retort.access import Principal, Scope
from retort.db import Session, datasets, uploads
from retort.db.datasets import DatasetNotFound
from retort.db.models import DATASET_PREFIX, DatasetRow
from retort.db.session import database_now
from retort.states import DatasetState
from starlette.concurrency import run_in_threadpool

from retort_api import file_response
from retort_api.deps import AppState, Caller, Router, Serving
from retort_api.errors import ACCEPTED, NO_CONTENT, OK, documented
from retort_api.file_response import StoredFile
from retort_api.http import BODY_LIMIT, JSON, Cursor, Deleted, Limit, next_cursor, parse_cursor, trash_query
from retort_api.receiving import read_model
from retort_api.routes.url_uploads import fetching
from retort_api.schemas.datasets import (
    DatasetOfUpload,
    DatasetOfUrl,
    DatasetPage,
    Datasets,
    NewDataset,
    RegisteredDataset,
)
from retort_api.schemas.uploads import UploadFetch

router = Router("datasets")

_BODY = {"required": True, "content": {JSON: {"schema": {"$ref": "#/components/schemas/NewDataset"}}}}
_LOCATION = {"Location": {"description": "Address of the dataset.", "schema": {"type": "string"}}}
_DOWNLOAD = file_response.responses("dataset_not_found")
_READING = ("dataset_not_found", "bad_parameter", "database_unavailable")
_VERSION = re.compile(rf"{DATASET_PREFIX}[0-9a-f]{{32}}|(sha256:)?[0-9a-f]{{8,64}}")
Name = Annotated[str, Path(description="Such as `street`.")]
Version = Annotated[str, Path(description="The id, or the digest in hex, or its first 8 digits or more.")]
Range = Annotated[str | None, Header(alias="Range", description="One range of bytes.")]


@router.post(
    "/v1/datasets",
    scope=Scope.DATA_WRITE,
    status_code=ACCEPTED,
    response_model=RegisteredDataset,
    openapi_extra={"requestBody": _BODY},
    responses={
        ACCEPTED: {"description": "A worker will look through it.", "headers": _LOCATION},
        OK: {"model": RegisteredDataset, "description": "It is made of the same file already.", "headers": _LOCATION},
        **documented(
            "unreadable_body",
            "body_too_large",
            "unsupported_media_type",
            "bad_parameter",
            "upload_not_found",
            "bad_address",
            "fetching_off",
            "quota_exceeded",
            "database_unavailable",
        ),
    },
)
async def create_dataset(*, service: Serving, caller: Caller, request: Request, response: Response) -> Any:
    """Make a dataset of an uploaded archive, or of one at a URL: zip, tar, tar.gz, tar.zst.

    It holds images and labels in YOLO layout, or COCO or VOC annotations. A worker unpacks, checks and normalises it;
    follow `links.self` until its state is `ready` or `refused`. Asking twice for the same file and name makes one.
    """
    wanted = await read_model(request, NewDataset, BODY_LIMIT)
    dataset, created = await run_in_threadpool(make_dataset, service, caller, wanted.root)
    response.status_code = ACCEPTED if created else OK
    response.headers["Location"] = dataset.links.self
    return dataset


def make_dataset(
    service: AppState, caller: Principal, wanted: DatasetOfUpload | DatasetOfUrl
) -> tuple[RegisteredDataset, bool]:
    """Make a dataset; return it, and whether it is a new one."""
    if isinstance(wanted, DatasetOfUrl):
        upload_id = fetching(service, caller, UploadFetch(url=wanted.url, sha256=wanted.sha256))[0].id
    else:
        upload_id = wanted.upload
    with service.begin(caller) as session:
        upload = uploads.get(session, upload_id, caller.reach)
        row = datasets.of_upload(session, upload, wanted.name)
        if row is None and upload.sha256 is not None:
            row = datasets.made_of(session, upload.project, wanted.name, upload.sha256)
        if row is not None:
            return RegisteredDataset.of(row, datasets.previews(session, row.id)), False
        row = datasets.create(
            session, project=upload.project, owner=caller.owner, name=wanted.name, upload=upload,
            now=database_now(session),
        )  # fmt: skip
        return RegisteredDataset.of(row), True


@router.readable(
    "/v1/datasets",
    scope=Scope.DATA_READ,
    response_model=DatasetPage,
    responses=documented("bad_parameter", "database_unavailable"),
)
def list_datasets(
    *,
    service: Serving,
    caller: Caller,
    response: Response,
    name: Annotated[str | None, Query(pattern=rf"^{dataset_ref.NAME}$", description="Only this name's.")] = None,
    deleted: Deleted = False,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> DatasetPage:
    """List datasets, newest first; those too that are not ready."""
    after = parse_cursor(cursor, DATASET_PREFIX)
    with service.read(caller) as session:
        found = datasets.page(session, caller.reach, name=name, deleted=deleted, after=after, limit=limit + 1)
        shown = _all_shown(session, found[:limit])
    query = [*([] if name is None else [("name", name)]), *trash_query(deleted)]
    cursor = next_cursor(response, found, limit, prefix=DATASET_PREFIX, path="/v1/datasets", query=query)
    return DatasetPage(data=shown, next_cursor=cursor, has_more=cursor is not None)


@router.readable(
    "/v1/datasets/{name}",
    scope=Scope.DATA_READ,
    response_model=Datasets,
    responses=documented(*_READING),
)
def get_dataset(service: Serving, caller: Caller, name: Name) -> Datasets:
    """Show the versions of a dataset, newest first, at most a hundred."""
    if not re.fullmatch(dataset_ref.NAME, name):
        raise DatasetNotFound(f"there is no dataset named {name!r}")
    with service.read(caller) as session:
        found = datasets.page(session, caller.reach, name=name, limit=100)
        if not found:
            raise DatasetNotFound(f"there is no dataset named {name!r}", hint="retort datasets list names them")
        return Datasets(data=_all_shown(session, found))


def _all_shown(session: Session, rows: Sequence[DatasetRow]) -> tuple[RegisteredDataset, ...]:
    previews = datasets.previews_of(session, [row.id for row in rows])
    return tuple(RegisteredDataset.of(row, previews[row.id]) for row in rows)


def dataset_row(service: AppState, caller: Principal, name: str, version: str, *, deleted: bool = False) -> DatasetRow:
    """Return one version of a dataset, by id or digits of the digest."""
    if not re.fullmatch(dataset_ref.NAME, name) or not _VERSION.fullmatch(version):
        raise DatasetNotFound(f"there is no version {version!r} of a dataset {name!r}")
    with service.read(caller) as session:
        return datasets.get(session, caller.reach, name, version, deleted=deleted)


@router.readable(
    "/v1/datasets/{name}/{version}",
    scope=Scope.DATA_READ,
    response_model=RegisteredDataset,
    responses=documented(*_READING),
)
def get_dataset_version(service: Serving, caller: Caller, name: Name, version: Version) -> RegisteredDataset:
    """Show one version of a dataset: its state, what it holds, and what was found in it."""
    row = dataset_row(service, caller, name, version)
    with service.read(caller) as session:
        return RegisteredDataset.of(row, datasets.previews(session, row.id))


@router.head(
    "/v1/datasets/{name}/{version}/content",
    scope=Scope.DATA_READ,
    responses=_DOWNLOAD,
    operation_id="describe_dataset_content",
    summary="Describe Dataset Content",
)
@router.get(
    "/v1/datasets/{name}/{version}/content", scope=Scope.DATA_READ, responses=_DOWNLOAD, operation_id="download_dataset"
)
def download_dataset(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    name: Name,
    version: Version,
    range_: Range = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Download a dataset that is ready, or the rest of it: a tar file in YOLO layout."""
    row = dataset_row(service, caller, name, version)
    if row.state is not DatasetState.READY or row.key is None or row.sha256 is None or row.size_bytes is None:
        raise DatasetNotFound(f"dataset {name!r}, {version}: it is {row.state}, not ready")
    file = StoredFile(f"{name}.tar", row.sha256, row.size_bytes, "application/x-tar", row.key)
    return file_response.send(
        request, service.store, file, range_=range_, if_range=if_range, if_none_match=if_none_match
    )


@router.get(
    "/v1/datasets/{name}/{version}/previews/{number}.jpg",
    scope=Scope.DATA_READ,
    responses=_DOWNLOAD,
    operation_id="download_dataset_preview",
)
def download_preview(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    name: Name,
    version: Version,
    number: Annotated[int, Path(ge=1, le=100, description="From 1.")],
    range_: Range = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Download a small picture of one of the images, with its boxes; it was encoded by the service."""
    row = dataset_row(service, caller, name, version)
    with service.read(caller) as session:
        there = {one.number: one for one in datasets.previews(session, row.id)}
    if number not in there:
        raise DatasetNotFound(f"dataset {name!r}, {version}: there is no preview {number}")
    one = there[number]
    file = StoredFile(f"{name}-{number}.jpg", one.sha256, one.size_bytes, "image/jpeg", one.key)
    return file_response.send(
        request, service.store, file, range_=range_, if_range=if_range, if_none_match=if_none_match
    )


@router.delete(
    "/v1/datasets/{name}/{version}",
    scope=Scope.DATA_WRITE,
    status_code=NO_CONTENT,
    responses={NO_CONTENT: {"description": "It is in the trash."}, **documented(*_READING, "in_use")},
)
def delete_dataset(service: Serving, caller: Caller, name: Name, version: Version) -> None:
    """Move one version of a dataset to the trash; it can be restored until `RETORT_KEEP_TRASH_S` is over.

    One that a spec names is kept for as long as the job or sweep is.
    """
    row = dataset_row(service, caller, name, version)
    with service.begin(caller) as session:
        datasets.delete_version(session, row, now=database_now(session))


@router.post(
    "/v1/datasets/{name}/{version}/restore",
    scope=Scope.DATA_WRITE,
    response_model=RegisteredDataset,
    responses=documented(*_READING),
)
def restore_dataset(service: Serving, caller: Caller, name: Name, version: Version) -> RegisteredDataset:
    """Take one version of a dataset out of the trash."""
    row = dataset_row(service, caller, name, version, deleted=True)
    with service.begin(caller) as session:
        datasets.restore(session, row)
    return get_dataset_version(service, caller, name, row.id)
