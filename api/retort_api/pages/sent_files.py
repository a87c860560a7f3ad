"""Take the files that forms send, for browsers without JavaScript."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import IO

from fastapi import UploadFile
from retort.access import Principal
from retort.db import uploads
from retort.db.models import UploadRow
from retort.db.session import database_now
from retort.db.uploads import NewUpload

from retort_api.deps import AppState
from retort_api.errors import BadParameter
from retort_api.receiving import Received, Spool
from retort_api.routes.tus import append_piece
from retort_api.routes.uploads import check_size, finish

FILE_LIMIT = 512 << 20
"""Largest body of a form with a file: larger ones go in parts, by the page's script or the command line."""
_PIECE_BYTES = 8 << 20
_READ_BYTES = 1 << 20
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f/\\\ud800-\udfff]")


def archive(service: AppState, caller: Principal, file: UploadFile) -> UploadRow:
    """Keep a sent archive as a complete upload."""
    size_bytes = _size(file)
    check_size(service, size_bytes)
    name = _UNFIT.sub("_", PurePath(file.filename or "").name)[:200] or None
    new = NewUpload(project=caller.project, owner=caller.owner, size_bytes=size_bytes, name=name)
    with service.begin(caller) as session:
        row = uploads.create(session, new, now=database_now(session))
    while (piece := _spooled(service, file.file, _PIECE_BYTES)) is not None:
        with piece:
            row = append_piece(service, caller, row, piece)
    finish(service, caller, row)
    return row


def whole_file(service: AppState, file: UploadFile) -> Received:
    """Return a sent file in the folder of what is being received."""
    size_bytes = _size(file)
    service.disk.check(size_bytes)
    found = _spooled(service, file.file, size_bytes)
    assert found is not None, "it is not empty"
    return found


def _size(file: UploadFile) -> int:
    if not file.size:
        raise BadParameter("the file", "is missing or empty", hint="choose a file")
    return file.size


def _spooled(service: AppState, source: IO[bytes], most: int) -> Received | None:
    """Return the next *most* bytes of a file, or fewer at its end; None behind it."""
    spool = Spool(service.spool)
    try:
        while spool.size_bytes < most and (piece := source.read(min(_READ_BYTES, most - spool.size_bytes))):
            spool.take(piece)
        if spool.size_bytes:
            return spool.taken()
    except BaseException:
        spool.close()
        raise
    spool.close()
    return None
