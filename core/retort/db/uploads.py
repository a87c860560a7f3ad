"""Uploads: files on their way in, in parts with digests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from retort.db import garbage, quotas
from retort.db.models import UPLOAD_PREFIX, DatasetRow, UploadPartRow, UploadRow, new_id
from retort.db.session import NO_SYNC, add, add_or_ignore
from retort.errors import UserError
from retort.states import DatasetState, UploadState

__all__ = ["NewPart", "NewUpload", "UploadConflict", "UploadNotFound"]

_BATCH = 500
"""Values in one condition: databases limit their number."""


class UploadNotFound(UserError):
    """There is no such upload."""

    code = "upload_not_found"


class UploadConflict(UserError):
    """The upload stands otherwise than the request takes it to."""

    code = "upload_conflict"


@dataclass(frozen=True, slots=True)
class NewPart:
    """A part of an upload; *key* is None while its bytes are awaited."""

    sha256: str
    size_bytes: int
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUpload:
    """An upload that begins."""

    project: str
    owner: str
    size_bytes: int
    name: str | None = None
    sha256: str | None = None
    part_bytes: int = 0
    num_parts: int = 0


def create(session: Session, upload: NewUpload, parts: Sequence[NewPart] = (), *, now: float) -> UploadRow:
    """Begin an upload of which *parts* are announced.

    Raises:
        QuotaExceeded: the project may not begin another one, or not bring so many bytes.

    """
    quotas.check_upload(
        session, upload.project, more=upload.size_bytes - sum(part.size_bytes for part in parts if part.key)
    )
    row = UploadRow(
        id=new_id(UPLOAD_PREFIX), state=UploadState.OPEN, project=upload.project, owner=upload.owner,
        name=upload.name, size_bytes=upload.size_bytes, sha256=upload.sha256, part_bytes=upload.part_bytes,
        num_parts=upload.num_parts, received_bytes=sum(part.size_bytes for part in parts if part.key),
        created_at=now, touched_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    garbage.secure(session, [part.key for part in parts if part.key])
    add(session, UploadPartRow, [_part(row.id, number, part) for number, part in enumerate(parts, start=1)])
    return row


def _part(upload_id: str, number: int, part: NewPart) -> dict[str, object]:
    return {
        "upload_id": upload_id, "number": number, "sha256": part.sha256, "size_bytes": part.size_bytes, "key": part.key,
    }  # fmt: skip


def get(session: Session, upload_id: str, project: str | None) -> UploadRow:
    """Return an upload of *project*; None is for all.

    Raises:
        UploadNotFound: it has no such upload.

    """
    row = session.get(UploadRow, upload_id)
    if row is None or project not in {None, row.project}:
        raise UploadNotFound(f"there is no upload {upload_id}", hint="it may have expired: begin it again")
    return row


def page(session: Session, project: str | None, *, after: str | None = None, limit: int = 50) -> list[UploadRow]:
    """Return a page of at most *limit* uploads, newest first, older than *after*."""
    query = select(UploadRow).order_by(UploadRow.id.desc()).limit(limit)
    if project is not None:
        query = query.where(UploadRow.project == project)
    return list(session.scalars(query if after is None else query.where(UploadRow.id < after)))


def parts(session: Session, upload_id: str) -> list[UploadPartRow]:
    """Return the parts of an upload that are there or awaited, in order."""
    query = select(UploadPartRow).where(UploadPartRow.upload_id == upload_id).order_by(UploadPartRow.number)
    return list(session.scalars(query))


def part(session: Session, upload_id: str, number: int) -> UploadPartRow | None:
    """Return one part of an upload, or None."""
    return session.get(UploadPartRow, (upload_id, number))


def known_parts(session: Session, project: str, digests: Iterable[str]) -> dict[str, UploadPartRow]:
    """Return the parts with these *digests* that *project* has brought already, by digest.

    Another project's are not told of: whoever asks for a digest would learn what others have.
    """
    wanted = list(dict.fromkeys(digests))
    found: dict[str, UploadPartRow] = {}
    for start in range(0, len(wanted), _BATCH):
        query = (
            select(UploadPartRow)
            .join(UploadRow, UploadRow.id == UploadPartRow.upload_id)
            .where(UploadRow.project == project, UploadPartRow.key.is_not(None))
            .where(UploadPartRow.sha256.in_(wanted[start : start + _BATCH]))
        )
        found.update((row.sha256, row) for row in session.scalars(query))
    return found


def earlier(session: Session, new: NewUpload, announced: Sequence[NewPart]) -> UploadRow | None:
    """Return an upload of the same file, complete or in the same parts.

    None without an announced digest.
    """
    if new.sha256 is None:
        return None
    row = finished(session, new)
    if row is None and (row := _begun(session, new)) is not None and announced:
        same = [one.sha256 for one in parts(session, row.id)] == [one.sha256 for one in announced]
        return row if same else None
    return row


def finished(session: Session, new: NewUpload) -> UploadRow | None:
    """Return a complete upload of the same digest and, where that is known, size."""
    query = select(UploadRow).where(
        UploadRow.project == new.project, UploadRow.state == UploadState.COMPLETE, UploadRow.sha256 == new.sha256,
    )  # fmt: skip
    if new.size_bytes:
        query = query.where(UploadRow.size_bytes == new.size_bytes)
    return session.scalars(query.order_by(UploadRow.id.desc()).limit(1)).one_or_none()


def _begun(session: Session, new: NewUpload) -> UploadRow | None:
    query = select(UploadRow).where(
        UploadRow.project == new.project, UploadRow.owner == new.owner, UploadRow.state == UploadState.OPEN,
        UploadRow.sha256 == new.sha256, UploadRow.size_bytes == new.size_bytes,
        UploadRow.part_bytes == new.part_bytes, UploadRow.num_parts == new.num_parts, UploadRow.num_parts > 0,
    )  # fmt: skip
    return session.scalars(query.order_by(UploadRow.id.desc()).limit(1)).one_or_none()


def add_part(session: Session, upload_id: str, number: int, new: NewPart, *, now: float) -> bool:
    """Record a part whose bytes are stored; False where it was recorded already.

    Raises:
        UploadConflict: the upload is complete, or the part is there with another digest.

    """
    assert new.key is not None
    there = add_or_ignore(session, UploadPartRow, _part(upload_id, number, new)) or _fill(
        session, upload_id, number, new
    )
    if not there:
        found = part(session, upload_id, number)
        if found is None or found.sha256 != new.sha256 or found.size_bytes != new.size_bytes:
            message = f"part {number} is there already, or was announced, with another digest"
            raise UploadConflict(message, hint="begin another upload: the file has changed")
        return False
    changed = {"received_bytes": UploadRow.received_bytes + new.size_bytes, "touched_at": now}
    still_open = update(UploadRow).where(UploadRow.id == upload_id, UploadRow.state == UploadState.OPEN)
    if not session.execute(still_open.values(changed).execution_options(**NO_SYNC)).rowcount:  # type: ignore[attr-defined]
        raise UploadConflict(f"the upload {upload_id} is not open any more", hint="GET says where it stands")
    return True


def append(session: Session, upload: UploadRow, new: NewPart, *, now: float, most_parts: int) -> None:
    """Record the next bytes of an upload whose bytes come one after the other.

    Raises:
        UploadConflict: others have come meanwhile, or there are *most_parts* already.

    """
    moved = update(UploadRow).where(
        UploadRow.id == upload.id, UploadRow.state == UploadState.OPEN, UploadRow.num_parts == 0,
        UploadRow.received_bytes == upload.received_bytes, UploadRow.source_url.is_(None),
    )  # fmt: skip
    values: Mapping[str, object] = {"received_bytes": upload.received_bytes + new.size_bytes, "touched_at": now}
    if not session.execute(moved.values(values).execution_options(**NO_SYNC)).rowcount:  # type: ignore[attr-defined]
        raise UploadConflict("other bytes have come meanwhile", hint="ask for the offset again")
    last = select(func.coalesce(func.max(UploadPartRow.number), 0)).where(UploadPartRow.upload_id == upload.id)
    number = session.execute(last).scalar_one() + 1
    if number > most_parts:
        raise UploadConflict(f"it came in {most_parts} pieces already", hint="begin again with larger pieces")
    assert new.key is not None
    garbage.secure(session, [new.key])
    add(session, UploadPartRow, [_part(upload.id, number, new)])


def _fill(session: Session, upload_id: str, number: int, new: NewPart) -> bool:
    """Give an announced part its bytes."""
    awaited = update(UploadPartRow).where(
        UploadPartRow.upload_id == upload_id, UploadPartRow.number == number, UploadPartRow.key.is_(None),
        UploadPartRow.sha256 == new.sha256, UploadPartRow.size_bytes == new.size_bytes,
    )  # fmt: skip
    result = session.execute(awaited.values(key=new.key).execution_options(**NO_SYNC))
    return bool(result.rowcount)  # type: ignore[attr-defined]


def complete(session: Session, upload_id: str, sha256: str, *, now: float) -> None:
    """Record that all bytes are there and have this digest."""
    done = update(UploadRow).where(UploadRow.id == upload_id)
    values: Mapping[str, object] = {"state": UploadState.COMPLETE, "sha256": sha256, "touched_at": now}
    session.execute(done.values(values).execution_options(**NO_SYNC))


def secure(session: Session, new: NewPart) -> None:
    """Take a part's bytes from the collector."""
    if new.key is not None:
        garbage.secure(session, [new.key])


def touch(session: Session, upload_ids: Iterable[str], *, now: float) -> None:
    """Begin the time of keeping again: what the uploads hold was used."""
    session.execute(
        update(UploadRow).where(UploadRow.id.in_(list(upload_ids))).values(touched_at=now).execution_options(**NO_SYNC)
    )


def remove(session: Session, upload_id: str, *, now: float) -> None:
    """Forget an upload; its bytes are collected unless others need them."""
    garbage.mark(session, [(one.key, one.size_bytes) for one in parts(session, upload_id) if one.key], now=now)
    session.execute(delete(UploadPartRow).where(UploadPartRow.upload_id == upload_id))
    session.execute(delete(UploadRow).where(UploadRow.id == upload_id))


def keys(session: Session, upload_id: str) -> list[str]:
    """Return where the store keeps the parts of an upload."""
    query = select(UploadPartRow.key).where(UploadPartRow.upload_id == upload_id, UploadPartRow.key.is_not(None))
    return [key for key in session.scalars(query) if key is not None]


def open_ones(session: Session, upload_ids: Collection[str]) -> set[str]:
    """Return those of *upload_ids* whose uploads are open."""
    return {
        found
        for start in range(0, len(upload_ids), _BATCH)
        for found in session.scalars(
            select(UploadRow.id).where(
                UploadRow.state == UploadState.OPEN, UploadRow.id.in_(sorted(upload_ids)[start : start + _BATCH])
            )
        )
    }


def expired(session: Session, *, before: float, limit: int = 100) -> list[str]:
    """Return uploads untouched since *before* that no dataset waits for."""
    query = (
        select(UploadRow.id)
        .where(UploadRow.touched_at < before)
        .where(~select(DatasetRow.id).where(DatasetRow.upload_id == UploadRow.id, _checking()).exists())
    )
    return list(session.scalars(query.order_by(UploadRow.touched_at).limit(limit)))


def _checking() -> ColumnElement[bool]:
    return DatasetRow.state == DatasetState.CHECKING
