"""Show the trash in pages, and restore from it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Form, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from retort.access import ANY_KEY, Principal, Scope
from retort.db import Session, datasets, model_registry, sweeps, trash
from retort.errors import RetortError, TransientError, UserError

from retort_api.deps import AppState, Caller, JobId, Serving, SweepId, is_job_id
from retort_api.pages import words
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render, see_other
from retort_api.routes import datasets as dataset_routes
from retort_api.routes import trash as trash_routes
from retort_api.schemas.bulk import MOST

router = PageRouter()

PAGE = 50
"""Things of one kind on a page."""
_MOST_REASONS = 3
_ADDRESS = "/settings/trash"
Mark = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,330}$")]
Kind = Literal["jobs", "sweeps", "artifacts", "models", "data"]


@dataclass(frozen=True, slots=True)
class TrashRow:
    """One thing in the trash."""

    name: str
    more: str
    """By which those of one name are told apart."""
    deleted_at: float
    action: str
    """Address of the form that restores it."""
    fields: Mapping[str, str]
    mark: str
    """What the form for many sends of it."""


@dataclass(frozen=True, slots=True)
class TrashShelf:
    """A page of what is in the trash of one kind."""

    kind: Kind
    title: str
    noun: str
    scope: Scope
    rows: tuple[TrashRow, ...]
    following: str | None
    """Address of its next page."""


@dataclass(frozen=True, slots=True)
class _ShelfKind:
    title: str
    noun: str
    read: Scope
    write: Scope
    page: Callable[[Session, Principal, str | None], Sequence[Any]]
    row: Callable[[Any], TrashRow]
    restore: Callable[[AppState, Principal, str], object]
    """Take out of the trash what a mark means."""


class RestoreArtifactForm(BaseModel):
    """The form that takes an artifact out of the trash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Annotated[str, Field(pattern=r"^job_[0-9a-f]{32}$")]
    name: Annotated[str, Field(max_length=255)]


class RestoreForm(BaseModel):
    """The form that restores things of one kind: those ticked, or all shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    wanted: Literal["ticked", "shown"]
    ids: Annotated[tuple[Mark, ...], Field(max_length=MOST)] = ()
    shown: Annotated[tuple[Mark, ...], Field(max_length=MOST)] = ()


@router.page("/settings/trash", scope=Scope.JOBS_READ)
def show_trash(
    request: Request, service: Serving, caller: Caller,
    kind: Annotated[Kind | None, Query(description="Only this kind.")] = None,
    after: Annotated[str | None, Query(pattern=r"^[a-z]{3}_[0-9a-f]{32}$")] = None,
) -> Response:  # fmt: skip
    """Show what was deleted, and until when it can be restored."""
    kinds: Sequence[Kind] = [one for one in _KINDS if kind in {None, one}]
    with service.read(caller) as session:
        read = [_shelf(session, caller, one, after if kind else None) for one in kinds]
    return render(
        request, "settings_trash.html", title="Trash", current="settings", section="trash",
        shelves=[one for one in read if one.rows], kind=kind, paged=after is not None,
        keep_s=service.settings.keep_trash_s, now=time.time(),
    )  # fmt: skip


def _shelf(session: Session, caller: Principal, kind: Kind, after: str | None) -> TrashShelf:
    about = _KINDS[kind]
    found = about.page(session, caller, after) if about.read in caller.scopes else []
    last = found[PAGE - 1].id if len(found) > PAGE else None
    following = None if last is None else f"{_ADDRESS}?{urlencode({'kind': kind, 'after': last})}"
    return TrashShelf(
        kind, about.title, about.noun, about.write, tuple(about.row(one) for one in found[:PAGE]), following
    )  # fmt: skip


def _restore_artifact(service: AppState, caller: Principal, mark: str) -> None:
    job_id, _, name = mark.partition("/")
    if not is_job_id(job_id):
        raise UserError(f"{mark!r} is no artifact", hint="tick it on the page of the trash")
    trash_routes.restore_artifact(service, caller, job_id, name)


def _restore_model(service: AppState, caller: Principal, mark: str) -> None:
    name, _, digest = mark.partition("/")
    trash_routes.restore_model(service, caller, name, digest)


def _restore_dataset(service: AppState, caller: Principal, mark: str) -> None:
    name, _, version = mark.partition("/")
    dataset_routes.restore_dataset(service, caller, name, version)


_KINDS: Mapping[Kind, _ShelfKind] = {
    "jobs": _ShelfKind(
        "Jobs", "job", Scope.JOBS_READ, Scope.JOBS_WRITE,
        lambda session, _, after: trash.deleted_jobs(session, after=after, limit=PAGE + 1),
        lambda one: TrashRow(one.name, one.id[:12], one.deleted_at, f"{_ADDRESS}/jobs/{one.id}", {}, one.id),
        lambda service, caller, mark: trash_routes.restore_job(service, caller, mark, Response()),
    ),
    "sweeps": _ShelfKind(
        "Sweeps, with their jobs", "sweep", Scope.JOBS_READ, Scope.JOBS_WRITE,
        lambda session, _, after: sweeps.page(session, after=after, limit=PAGE + 1, deleted=True),
        lambda one: TrashRow(one.name, one.id[:12], one.deleted_at, f"{_ADDRESS}/sweeps/{one.id}", {}, one.id),
        trash_routes.restore_sweep,
    ),
    "artifacts": _ShelfKind(
        "Artifacts", "artifact", Scope.JOBS_READ, Scope.JOBS_WRITE,
        lambda session, _, after: trash.deleted_artifacts(session, after=after, limit=PAGE + 1),
        lambda one: TrashRow(
            one.name, f"of {one.job_id[:12]}", one.deleted_at, f"{_ADDRESS}/artifacts",
            {"job": one.job_id, "name": one.name}, f"{one.job_id}/{one.name}",
        ),
        _restore_artifact,
    ),
    "models": _ShelfKind(
        "Models", "model", Scope.MODELS_READ, Scope.MODELS_WRITE,
        lambda session, _, after: model_registry.page(session, after=after, limit=PAGE + 1, deleted=True),
        lambda one: TrashRow(
            one.name, one.sha256[:12], one.deleted_at, f"/models/{one.name}/restore", {"sha256": one.sha256},
            f"{one.name}/{one.sha256}",
        ),
        _restore_model,
    ),
    "data": _ShelfKind(
        "Data", "dataset", Scope.DATA_READ, Scope.DATA_WRITE,
        lambda session, caller, after: datasets.page(
            session, caller.reach, deleted=True, after=after, limit=PAGE + 1
        ),
        lambda one: TrashRow(
            one.name, (one.sha256 or one.id)[:12], one.deleted_at, f"/data/{one.name}/restore", {"version": one.id},
            f"{one.name}/{one.id}",
        ),
        _restore_dataset,
    ),
}  # fmt: skip


@router.form("/settings/trash/restore", scope=ANY_KEY)
def restore_many_by_form(
    request: Request, service: Serving, caller: Caller, asked: Annotated[RestoreForm, Form()]
) -> Response:
    """Take things of one kind out of the trash: those ticked, or all shown."""
    about = _KINDS[asked.kind]
    caller.demand(about.write)
    marks = tuple(dict.fromkeys(asked.ids if asked.wanted == "ticked" else asked.shown))
    refused: Counter[str] = Counter()
    for mark in marks:
        try:
            about.restore(service, caller, mark)
        except TransientError:
            raise
        except RetortError as error:
            refused[error.message] += 1
    return see_other(request, _ADDRESS, _outcome(about.noun, len(marks), refused))


def _outcome(noun: str, number: int, refused: Counter[str]) -> str:
    if not number:
        return "Nothing was done: nothing was ticked."
    done = number - refused.total()
    said = [f"{words.count(done, noun)} restored."] if done else []
    if refused:
        more = "; and other reasons" if len(refused) > _MOST_REASONS else ""
        reasons = "; ".join(reason for reason, _ in refused.most_common(_MOST_REASONS))
        said.append(f"{words.count(refused.total(), noun)} not: {reasons}{more}.")
    return " ".join(said)


@router.form("/settings/trash/jobs/{job_id}", scope=Scope.JOBS_WRITE)
def restore_job_by_form(request: Request, service: Serving, caller: Caller, job_id: JobId) -> Response:
    """Take a job out of the trash."""
    trash_routes.restore_job(service, caller, job_id, Response())
    return see_other(request, _ADDRESS, "The job is restored")


@router.form("/settings/trash/sweeps/{sweep_id}", scope=Scope.JOBS_WRITE)
def restore_sweep_by_form(request: Request, service: Serving, caller: Caller, sweep_id: SweepId) -> Response:
    """Take a sweep out of the trash."""
    trash_routes.restore_sweep(service, caller, sweep_id)
    return see_other(request, _ADDRESS, "The sweep is restored, with its jobs")


@router.form("/settings/trash/artifacts", scope=Scope.JOBS_WRITE)
def restore_artifact_by_form(
    request: Request, service: Serving, caller: Caller, asked: Annotated[RestoreArtifactForm, Form()]
) -> Response:
    """Take an artifact out of the trash."""
    trash_routes.restore_artifact(service, caller, asked.job, asked.name)
    return see_other(request, _ADDRESS, f"{asked.name} is restored")
