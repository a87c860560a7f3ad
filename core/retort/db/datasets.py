"""Registered datasets: versions by digest, and their checking by workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from retort.dataset_ref import DatasetRef
from retort.db import garbage, references, uploads
from retort.db.models import DATASET_PREFIX, DatasetPreviewRow, DatasetRow, UploadRow, new_id
from retort.db.session import NO_SYNC, add
from retort.db.trash import InUse
from retort.errors import UserError
from retort.states import DatasetState, UploadState

MOST_ATTEMPTS = 3
"""How often a worker may be lost over one dataset."""


class DatasetNotFound(UserError):
    """There is no such dataset."""

    code = "dataset_not_found"


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """A file of a dataset whose bytes lie in the store under *key*."""

    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DatasetClaim:
    """A dataset that a worker is to look through."""

    id: str
    project: str
    name: str
    upload_id: str
    sha256: str
    size_bytes: int
    attempt: int
    """Guards what the worker writes: a later attempt has a higher number."""


def create(session: Session, *, project: str, owner: str, name: str, upload: UploadRow, now: float) -> DatasetRow:
    """Make a dataset of an upload; it is checked once the upload is complete."""
    complete = upload.state is UploadState.COMPLETE
    row = DatasetRow(
        id=new_id(DATASET_PREFIX), project=project, owner=owner, name=name, upload_id=upload.id,
        state=DatasetState.CHECKING if complete else DatasetState.UPLOADING,
        source_sha256=upload.sha256 if complete else None, attempts=0, created_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def of_upload(session: Session, upload: UploadRow, name: str) -> DatasetRow | None:
    """Return the dataset of this name made from an upload, unless refused."""
    query = select(DatasetRow).where(
        DatasetRow.upload_id == upload.id, DatasetRow.name == name, DatasetRow.state != DatasetState.REFUSED
    )
    return session.scalars(query.limit(1)).one_or_none()


def made_of(session: Session, project: str, name: str, source_sha256: str) -> DatasetRow | None:
    """Return the dataset of this name made from a file, unless refused."""
    query = _newest(project).where(
        DatasetRow.name == name, DatasetRow.source_sha256 == source_sha256, DatasetRow.state != DatasetState.REFUSED
    )
    return session.scalars(query.limit(1)).one_or_none()


def begin_checking(session: Session, upload: UploadRow, sha256: str) -> int:
    """Let workers look through the datasets that waited for an upload; return how many."""
    waiting = update(DatasetRow).where(
        DatasetRow.upload_id == upload.id, DatasetRow.state == DatasetState.UPLOADING
    )  # fmt: skip
    values = {"state": DatasetState.CHECKING, "source_sha256": sha256}
    changed = waiting.values(values).execution_options(**NO_SYNC)
    return int(session.execute(changed).rowcount)  # type: ignore[attr-defined]


def needs(session: Session, upload_id: str) -> bool:
    """Return True while a worker still has to read the upload."""
    query = select(DatasetRow.id).where(DatasetRow.upload_id == upload_id, DatasetRow.state == DatasetState.CHECKING)
    return session.scalars(query.limit(1)).one_or_none() is not None


def forget_upload(session: Session, upload_id: str, *, now: float) -> None:
    """Refuse the datasets whose upload never ended."""
    finding = {"severity": "error", "code": "upload_expired", "message": "its upload was never completed",
               "hint": "push it again", "number": 1, "places": []}  # fmt: skip
    refuse_waiting(session, upload_id, finding, now=now)


def refuse_waiting(session: Session, upload_id: str, finding: dict[str, Any], *, now: float) -> None:
    """Refuse the datasets that wait for an upload."""
    waiting = update(DatasetRow).where(DatasetRow.upload_id == upload_id, DatasetRow.state == DatasetState.UPLOADING)
    values = {"state": DatasetState.REFUSED, "summary": {"findings": [finding]}, "ended_at": now}
    session.execute(waiting.values(values).execution_options(**NO_SYNC))


def _newest(project: str | None, *, deleted: bool = False) -> Select[DatasetRow]:
    gone = DatasetRow.deleted_at.is_not(None) if deleted else DatasetRow.deleted_at.is_(None)
    query = select(DatasetRow).where(gone).order_by(DatasetRow.id.desc())
    return query if project is None else query.where(DatasetRow.project == project)


def page(
    session: Session,
    project: str | None,
    *,
    name: str | None = None,
    deleted: bool = False,
    after: str | None = None,
    limit: int = 50,
) -> list[DatasetRow]:
    """Return a page of at most *limit* datasets, newest first, older than *after*."""
    query = _newest(project, deleted=deleted).limit(limit)
    if name is not None:
        query = query.where(DatasetRow.name == name)
    return list(session.scalars(query if after is None else query.where(DatasetRow.id < after)))


def digests(session: Session, project: str | None, name: str) -> list[str]:
    """Return the digests of what is ready by *name*, newest first."""
    query = _newest(project).where(DatasetRow.name == name, DatasetRow.state == DatasetState.READY)
    return list(dict.fromkeys(row.sha256 for row in session.scalars(query) if row.sha256))


def get(
    session: Session, project: str | None, name: str, version: str, *, deleted: bool = False
) -> DatasetRow:  # fmt: skip
    """Return one version of a dataset, by id or digits of the digest.

    Raises:
        DatasetNotFound: there is none, or several begin so.

    """
    query = _newest(project, deleted=deleted).where(DatasetRow.name == name)
    if version.startswith(DATASET_PREFIX):
        found = list(session.scalars(query.where(DatasetRow.id == version)))
    else:
        digits = version.removeprefix("sha256:")
        begins = DatasetRow.sha256.startswith(digits, autoescape=True)
        found = list(session.scalars(query.where(DatasetRow.state == DatasetState.READY, begins).limit(2)))
    if len(found) != 1:
        told = "several versions begin so" if found else "there is no such version"
        raise DatasetNotFound(f"dataset {name!r}, {version}: {told}", hint="retort datasets show lists the versions")
    return found[0]


def find(session: Session, reference: DatasetRef, project: str | None) -> DatasetRow | None:
    """Return the dataset that *reference* names in *project*, or None."""
    query = _newest(project).where(
        DatasetRow.name == reference.name, DatasetRow.sha256 == reference.sha256,
        DatasetRow.state == DatasetState.READY,
    )  # fmt: skip
    return session.scalars(query.limit(1)).one_or_none()


def classes(session: Session, reference: DatasetRef, project: str | None) -> tuple[str, ...] | None:
    """Return the class names of the dataset that *reference* names in *project*, or None."""
    row = find(session, reference, project)
    return None if row is None else tuple((row.summary or {}).get("names", ()))


def previews(session: Session, dataset_id: str) -> list[DatasetPreviewRow]:
    """Return the previews of a dataset, in order."""
    query = select(DatasetPreviewRow).where(DatasetPreviewRow.dataset_id == dataset_id)
    return list(session.scalars(query.order_by(DatasetPreviewRow.number)))


def previews_of(session: Session, dataset_ids: Sequence[str]) -> dict[str, list[DatasetPreviewRow]]:
    """Return the previews of several datasets, in order."""
    found: dict[str, list[DatasetPreviewRow]] = {dataset_id: [] for dataset_id in dataset_ids}
    query = select(DatasetPreviewRow).where(DatasetPreviewRow.dataset_id.in_(dataset_ids))
    for one in session.scalars(query.order_by(DatasetPreviewRow.number)):
        found[one.dataset_id].append(one)
    return found


def delete_version(session: Session, row: DatasetRow, *, now: float) -> None:
    """Move a dataset to the trash.

    Raises:
        InUse: a job or a sweep outside of the trash names it.

    """
    if row.sha256 is not None:
        reference = str(DatasetRef(row.name, row.sha256))
        if named_by := [str(one) for one in references.users(session, reference, project=row.project)]:
            hint = "delete those first; a dataset is kept for as long as a spec names it"
            raise InUse(reference, named_by, hint=hint)
    _set_deleted(session, row.id, now)


def restore(session: Session, row: DatasetRow) -> None:
    """Take a dataset out of the trash."""
    _set_deleted(session, row.id, None)


def _set_deleted(session: Session, dataset_id: str, at: float | None) -> None:
    changed = update(DatasetRow).where(DatasetRow.id == dataset_id).values(deleted_at=at)
    session.execute(changed.execution_options(**NO_SYNC))


def purge(session: Session, *, before: float, now: float, limit: int = 100) -> int:
    """Delete for good what went to the trash before *before*; return how many.

    What a spec names again is taken out of the trash.
    """
    old = select(DatasetRow).where(DatasetRow.deleted_at < before).limit(limit).with_for_update(skip_locked=True)
    rows = list(session.scalars(old))
    for row in rows:
        session.expunge(row)
        if row.sha256 is not None and any(
            references.users(session, str(DatasetRef(row.name, row.sha256)), project=row.project, limit=1)
        ):
            restore(session, row)
        else:
            remove(session, row, now=now)
    return len(rows)


def drop_uploads(session: Session, *, before: float, now: float) -> int:
    """Drop uploads untouched since *before*; return how many.

    A dataset that waited for one is refused.
    """
    old = uploads.expired(session, before=before)
    for upload_id in old:
        forget_upload(session, upload_id, now=now)
        uploads.remove(session, upload_id, now=now)
    return len(old)


def remove(session: Session, row: DatasetRow, *, now: float) -> None:
    """Forget a dataset; its bytes are collected unless others need them."""
    bytes_of = [(one.key, one.size_bytes) for one in previews(session, row.id)]
    if row.key is not None and row.size_bytes is not None:
        bytes_of.append((row.key, row.size_bytes))
    garbage.mark(session, bytes_of, now=now)
    session.execute(delete(DatasetPreviewRow).where(DatasetPreviewRow.dataset_id == row.id))
    session.execute(delete(DatasetRow).where(DatasetRow.id == row.id))


def claim(session: Session, *, worker: str, now: float, lease_s: float) -> DatasetClaim | None:
    """Claim the dataset that has waited longest to be looked through, or None.

    One whose lease has run out waits only once ``reap`` has seen it: that pass knows steps of the clock.
    """
    query = (
        select(DatasetRow)
        .where(DatasetRow.state == DatasetState.CHECKING, DatasetRow.lease_until.is_(None))
        .order_by(DatasetRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = session.scalars(query).one_or_none()
    if row is None:
        return None
    if row.attempts >= MOST_ATTEMPTS:
        _refuse_lost(row, now)
        return None
    assert row.upload_id is not None
    upload = session.get(UploadRow, row.upload_id)
    assert upload is not None, "uploads are kept while a dataset is checked"
    assert upload.sha256 is not None
    row.attempts += 1
    row.worker, row.lease_until = worker, now + lease_s
    return DatasetClaim(
        row.id, row.project, row.name, upload.id, upload.sha256, upload.size_bytes, row.attempts
    )  # fmt: skip


def reap(session: Session, *, now: float) -> int:
    """Let others look through datasets whose workers are lost; return how many."""
    lost = update(DatasetRow).where(DatasetRow.state == DatasetState.CHECKING, DatasetRow.lease_until < now)
    result = session.execute(lost.values(lease_until=None, worker=None).execution_options(**NO_SYNC))
    return int(result.rowcount)  # type: ignore[attr-defined]


def _refuse_lost(row: DatasetRow, now: float) -> None:
    message = f"{MOST_ATTEMPTS} workers were lost while they looked through it"
    finding = {"severity": "error", "code": "worker_lost", "message": message, "number": MOST_ATTEMPTS, "places": [],
               "hint": "push it again; a worker's log says more"}  # fmt: skip
    row.state, row.ended_at, row.summary = DatasetState.REFUSED, now, {"findings": [finding]}
    row.lease_until = row.worker = None


def renew(session: Session, claimed: DatasetClaim, *, now: float, lease_s: float) -> bool:
    """Renew the lease of a claim; False where it is lost."""
    values = {"lease_until": now + lease_s}
    result = session.execute(_held(claimed).values(values).execution_options(**NO_SYNC))
    return bool(result.rowcount)  # type: ignore[attr-defined]


def give_back(session: Session, claimed: DatasetClaim) -> None:
    """Let another worker look through the dataset at once, without counting this attempt."""
    values = {"lease_until": None, "worker": None, "attempts": claimed.attempt - 1}
    session.execute(_held(claimed).values(values).execution_options(**NO_SYNC))


def _held(claimed: DatasetClaim) -> Any:
    return update(DatasetRow).where(
        DatasetRow.id == claimed.id, DatasetRow.attempts == claimed.attempt, DatasetRow.state == DatasetState.CHECKING
    )


def refuse(session: Session, claimed: DatasetClaim, summary: dict[str, Any], *, now: float) -> bool:
    """Record why a dataset cannot be used; False where the claim is lost."""
    return _end(session, claimed, {"state": DatasetState.REFUSED, "summary": summary, "ended_at": now})


def finish(
    session: Session,
    claimed: DatasetClaim,
    summary: dict[str, Any],
    content: DatasetFile,
    pictures: Sequence[DatasetFile],
    *,
    now: float,
) -> bool:
    """Record that a dataset is ready; False where the claim is lost.

    An older one of the same name and content is forgotten: this one stands for both.
    """
    values = {
        "state": DatasetState.READY, "summary": summary, "sha256": content.sha256, "size_bytes": content.size_bytes,
        "key": content.key, "ended_at": now,
    }  # fmt: skip
    if not _end(session, claimed, values):
        return False
    garbage.secure(session, [content.key, *(one.key for one in pictures)])
    add(
        session,
        DatasetPreviewRow,
        [
            {"dataset_id": claimed.id, "number": number, "sha256": one.sha256, "size_bytes": one.size_bytes,
             "key": one.key}
            for number, one in enumerate(pictures, start=1)
        ],
    )  # fmt: skip
    older = _newest(claimed.project).where(
        DatasetRow.name == claimed.name, DatasetRow.sha256 == content.sha256, DatasetRow.id != claimed.id
    )
    for row in session.scalars(older):
        remove(session, row, now=now)
    return True


def _end(session: Session, claimed: DatasetClaim, values: dict[str, Any]) -> bool:
    ended = _held(claimed).values({**values, "lease_until": None, "worker": None})
    return bool(session.execute(ended.execution_options(**NO_SYNC)).rowcount)  # type: ignore[attr-defined]
