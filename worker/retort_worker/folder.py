"""The working folder of one job on this machine: whether it is free, and what of it comes from the store."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from retort import workdir
from retort.artifacts import BytesMissing, Store
from retort.db import Database, reviews
from retort.review.decisions import Decisions
from retort.workdir import journal

_log = structlog.get_logger()


def is_free(folder: Path) -> bool:
    """Whether the run of an earlier attempt is gone: until then it may still write to its journal."""
    try:
        with (folder / workdir.LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def restore(folder: Path, recovery: Mapping[str, Any], store: Store, job_id: str) -> bool:
    """Bring what an attempt on another machine has saved into *folder*; True when there is something to go on from.

    What was saved from this very folder is still in it, or something newer is.

    Raises:
        StoreUnavailable: try again later.

    """
    if recovery["job_id"] == job_id and journal(folder, recovery["attempt"]).exists():
        return True
    try:
        for file in recovery["files"]:
            path = (folder / file["path"]).resolve()
            assert path.is_relative_to(folder.resolve()), "it was inside when it was saved"
            store.fetch(file["key"], path)
    except BytesMissing as error:
        _log.warning("saved files are gone: the job begins anew", job=job_id, error=error.message)
        return False
    return True


def write_decisions(folder: Path, database: Database, job_id: str) -> None:
    """Tell the run what people have decided about its pseudo-labels, if anything.

    Raises:
        DatabaseUnavailable: try again later.

    """
    with database.read() as session:
        found = reviews.of_job(session, job_id)
    path = folder / workdir.DECISIONS
    if found:
        part = path.with_name(f"{path.name}.part")
        part.write_text(Decisions(decisions=tuple(found)).model_dump_json())
        part.replace(path)
    else:
        path.unlink(missing_ok=True)


def finish_early(folder: Path) -> None:
    """Tell the run, and those of later attempts, to finish early."""
    (folder / workdir.FINISH).touch()
