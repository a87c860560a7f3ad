"""Files that a worker fetches by URL: uploads whose bytes come from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from retort.addresses import shown
from retort.db import datasets, quotas, uploads
from retort.db.models import UploadRow
from retort.db.session import NO_SYNC
from retort.db.uploads import NewPart, NewUpload
from retort.states import UploadState

MOST_ATTEMPTS = 3
"""How often a worker may be lost over one URL."""


@dataclass(frozen=True, slots=True)
class FetchClaim:
    """A file that a worker is to fetch."""

    upload_id: str
    project: str
    url: str
    sha256: str | None
    attempt: int
    """Guards what the worker writes: a later attempt has a higher number."""


@dataclass(frozen=True, slots=True)
class FetchFailure:
    """Why a file could not be fetched."""

    code: str
    message: str
    hint: str | None = None


def begin(session: Session, new: NewUpload, url: str, *, now: float) -> tuple[UploadRow, bool]:
    """Return an upload that is fetched from *url*; True if it is new.

    What the project has by this digest, or fetches already, is taken.

    Raises:
        QuotaExceeded: the project may not begin another upload.

    """
    row = uploads.finished(session, new) if new.sha256 is not None else None
    if row is None:
        same = select(UploadRow).where(
            UploadRow.project == new.project, UploadRow.state == UploadState.OPEN, UploadRow.source_url == url
        )
        same = same.where(UploadRow.sha256 == new.sha256 if new.sha256 else UploadRow.sha256.is_(None))
        row = session.scalars(same.limit(1)).one_or_none()
    if row is not None:
        return row, False
    row = uploads.create(session, new, now=now)
    row.source_url = url
    session.flush()
    return row, True


def claim(session: Session, *, worker: str, now: float, lease_s: float) -> FetchClaim | None:
    """Claim the file that has waited longest to be fetched, or None.

    One whose lease has run out waits only once ``reap`` has seen it: that pass knows steps of the clock.
    """
    query = (
        select(UploadRow)
        .where(UploadRow.state == UploadState.OPEN, UploadRow.source_url.is_not(None), UploadRow.lease_until.is_(None))
        .order_by(UploadRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = session.scalars(query).one_or_none()
    if row is None:
        return None
    assert row.source_url is not None
    row.attempts += 1
    row.worker, row.lease_until, row.touched_at = worker, now + lease_s, now
    claimed = FetchClaim(row.id, row.project, row.source_url, row.sha256, row.attempts)
    if row.attempts > MOST_ATTEMPTS:
        session.flush()
        fail(session, claimed, FetchFailure("worker_lost", f"{MOST_ATTEMPTS} workers were lost over it"), now=now)
        return None
    return claimed


def reap(session: Session, *, now: float) -> int:
    """Let others fetch what lost workers were at; return how many."""
    lost = update(UploadRow).where(UploadRow.state == UploadState.OPEN, UploadRow.lease_until < now)
    result = session.execute(lost.values(lease_until=None, worker=None).execution_options(**NO_SYNC))
    return int(result.rowcount)  # type: ignore[attr-defined]


def renew(session: Session, claimed: FetchClaim, *, now: float, lease_s: float) -> bool:
    """Renew the lease of a claim; False where it is lost."""
    return _changed(session, claimed, {"lease_until": now + lease_s, "touched_at": now})


def announce(session: Session, claimed: FetchClaim, size_bytes: int) -> bool:
    """Record the size of the file; False where the claim is lost.

    Raises:
        QuotaExceeded: the project may not bring so many bytes.

    """
    row = uploads.get(session, claimed.upload_id, None)
    quotas.check_bytes(session, claimed.project, more=size_bytes - (row.size_bytes - row.received_bytes))
    return _changed(session, claimed, {"size_bytes": size_bytes})


def progress(session: Session, claimed: FetchClaim, received_bytes: int) -> bool:
    """Record how many bytes have come; False where the claim is lost."""
    return _changed(session, claimed, {"received_bytes": received_bytes})


def finish(session: Session, claimed: FetchClaim, part: NewPart, *, now: float) -> bool:
    """Record that the file is there; False where the claim is lost.

    Datasets that waited for it are checked.
    """
    values = {
        "size_bytes": part.size_bytes, "received_bytes": 0, "num_parts": 1, "source_url": None, "worker": None,
        "lease_until": None,
    }  # fmt: skip
    if not _changed(session, claimed, values):
        return False
    uploads.add_part(session, claimed.upload_id, 1, part, now=now)
    uploads.secure(session, part)
    uploads.complete(session, claimed.upload_id, part.sha256, now=now)
    datasets.begin_checking(session, uploads.get(session, claimed.upload_id, None), part.sha256)
    return True


def fail(session: Session, claimed: FetchClaim, failure: FetchFailure, *, now: float) -> bool:
    """Record why the file could not be fetched; False where the claim is lost.

    Datasets that waited for it are refused.
    """
    told = {"code": failure.code, "message": failure.message, "hint": failure.hint}
    values = {
        "state": UploadState.FAILED, "failure": told, "source_url": shown(claimed.url), "worker": None,
        "lease_until": None, "received_bytes": 0, "size_bytes": 0, "touched_at": now,
    }  # fmt: skip
    if not _changed(session, claimed, values):
        return False
    finding: dict[str, Any] = {**told, "hint": failure.hint or "", "severity": "error", "number": 1, "places": []}
    datasets.refuse_waiting(session, claimed.upload_id, finding, now=now)
    return True


def give_back(session: Session, claimed: FetchClaim) -> None:
    """Let another worker fetch the file at once, without counting this attempt."""
    _changed(session, claimed, {"lease_until": None, "worker": None, "attempts": claimed.attempt - 1})


def _changed(session: Session, claimed: FetchClaim, values: dict[str, Any]) -> bool:
    held = update(UploadRow).where(
        UploadRow.id == claimed.upload_id, UploadRow.attempts == claimed.attempt, UploadRow.state == UploadState.OPEN,
        UploadRow.source_url.is_not(None),
    )  # fmt: skip
    result = session.execute(held.values(values).execution_options(**NO_SYNC))
    return bool(result.rowcount)  # type: ignore[attr-defined]
