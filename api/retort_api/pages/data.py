"""Show datasets as pictures and figures, and take in, delete and restore them."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import File, Form, Query, Request, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from retort import dataset_ref
from retort.access import Principal, Scope
from retort.data.archives import KINDS
from retort.db import references
from retort.states import DatasetState

from retort_api.deps import AppState, Caller, Serving
from retort_api.http import Cursor, Deleted, Limit
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render, see_other
from retort_api.pages.sent_files import FILE_LIMIT, archive
from retort_api.routes import datasets
from retort_api.schemas.datasets import DatasetOfUpload, RegisteredDataset

router = PageRouter()

NAME_PATTERN = dataset_ref.NAME.replace("-]", r"\-]")
"""As browsers read patterns."""
_MOST_USERS = 50
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MOVING = {DatasetState.UPLOADING, DatasetState.CHECKING}
_COPIES = frozenset({
    "copied_image", "copies_not_looked_for", "doubled_image", "listed_twice", "same_original", "shared_image",
})  # fmt: skip
"""Codes of what was found about images that are there more than once."""
Chosen = Annotated[str | None, Query(pattern=r"^(dst_[0-9a-f]{32}|[0-9a-f]{8,64})$", description="Id or digest.")]
DatasetName = Annotated[str, Form(pattern=rf"^{dataset_ref.NAME}$")]


class VersionForm(BaseModel):
    """The form that names one version of a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[str, Field(pattern=r"^dst_[0-9a-f]{32}$")]


@dataclass(frozen=True, slots=True)
class ClassCount:
    """Boxes of one class in each split."""

    number: int
    name: str
    boxes: tuple[int, ...]
    total: int
    share: float
    """Of the boxes of the most frequent class."""


@router.page("/data", scope=Scope.DATA_READ)
def show_datasets(
    *, request: Request, service: Serving, caller: Caller, deleted: Deleted = False, limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:  # fmt: skip
    """Show the datasets, and the form that sends one."""
    found = datasets.list_datasets(
        service=service, caller=caller, response=Response(), deleted=deleted, limit=limit, cursor=cursor
    )  # fmt: skip
    return render(
        request, "data.html", title="Data", current="data", datasets=found.data, cursor=found.next_cursor,
        deleted=deleted, moving=any(one.state in _MOVING for one in found.data), now=time.time(),
        pattern=NAME_PATTERN, kinds=" ".join(sorted(KINDS)), most_bytes=FILE_LIMIT,
    )  # fmt: skip


@router.page("/upload", scope=Scope.DATA_READ)
def show_upload(request: Request) -> Response:
    """Lead to where datasets are sent now."""
    return see_other(request, "/data")


@router.form("/data", scope=Scope.DATA_WRITE, limit=FILE_LIMIT)
def send_dataset(
    request: Request, service: Serving, caller: Caller, archive_file: Annotated[UploadFile, File(alias="archive")],
    name: DatasetName,
) -> Response:  # fmt: skip
    """Make a dataset of an archive that a form has sent whole."""
    upload = archive(service, caller, archive_file)
    made, _ = datasets.make_dataset(service, caller, DatasetOfUpload(name=name, upload=upload.id))
    return see_other(request, _path(made), f"{archive_file.filename or 'The archive'} has been sent")


def _path(dataset: RegisteredDataset) -> str:
    return f"/data/{dataset.name}?version={dataset.id}"


@router.page("/data/{name}", scope=Scope.DATA_READ)
def show_dataset(request: Request, service: Serving, caller: Caller, name: str, version: Chosen = None) -> Response:
    """Show one version of a dataset: its pictures, classes, findings, users and other versions."""
    versions = datasets.get_dataset(service, caller, name).data
    shown = versions[0] if version is None else _version(service, caller, name, version)
    return render(
        request, "dataset.html", title=name, current="data", dataset=shown, versions=versions,
        is_latest=shown.id == versions[0].id, moving=shown.state in _MOVING, now=time.time(),
        classes=class_counts(shown), findings=[one for one in shown.findings if one.code not in _COPIES],
        copies=[one for one in shown.findings if one.code in _COPIES],
        users=_users(service, caller, shown), most_users=_MOST_USERS,
    )  # fmt: skip


def _version(service: AppState, caller: Principal, name: str, version: str) -> RegisteredDataset:
    return datasets.get_dataset_version(service, caller, name, version)


def _users(service: AppState, caller: Principal, shown: RegisteredDataset) -> list[references.SpecUser]:
    if shown.reference is None:
        return []
    with service.read(caller) as session:
        return list(references.users(session, shown.reference, limit=_MOST_USERS))


def class_counts(dataset: RegisteredDataset) -> list[ClassCount]:
    """Return the boxes of each class, by split and in all."""
    splits = list(dataset.splits.values())
    totals = [sum(split.boxes[number] for split in splits) for number in range(len(dataset.classes))]
    most = max(totals, default=0) or 1
    return [
        ClassCount(number, name, tuple(split.boxes[number] for split in splits), totals[number], totals[number] / most)
        for number, name in enumerate(dataset.classes)
    ]


@router.page("/data/{name}/classes.csv", scope=Scope.DATA_READ)
def download_classes(service: Serving, caller: Caller, name: str, version: Chosen = None) -> Response:
    """Send the boxes of each class as CSV."""
    found = datasets.get_dataset(service, caller, name).data
    shown = found[0] if version is None else _version(service, caller, name, version)
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["class", *shown.splits, "total"])
    lines.writerows([_inert(one.name), *one.boxes, one.total] for one in class_counts(shown))
    headers = {"Content-Disposition": f'attachment; filename="{shown.name}-classes.csv"'}
    return Response(text.getvalue(), media_type="text/csv", headers=headers)


def _inert(text: str) -> str:
    """Return text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


@router.form("/data/{name}/delete", scope=Scope.DATA_WRITE)
def delete_dataset_by_form(
    request: Request, service: Serving, caller: Caller, name: str, wanted: Annotated[VersionForm, Form()]
) -> Response:
    """Move one version of a dataset to the trash."""
    datasets.delete_dataset(service, caller, name, wanted.version)
    return see_other(request, "/data", f"A version of {name} is in the trash, from which it can be restored")


@router.form("/data/{name}/restore", scope=Scope.DATA_WRITE)
def restore_dataset_by_form(
    request: Request, service: Serving, caller: Caller, name: str, wanted: Annotated[VersionForm, Form()]
) -> Response:
    """Take one version of a dataset out of the trash."""
    made = datasets.restore_dataset(service, caller, name, wanted.version)
    return see_other(request, _path(made), f"{name} is restored")
