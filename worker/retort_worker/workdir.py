"""Prepare a job's working folder: lock, inputs, models, saved files."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
from retort import model_ref
from retort.data import weights
from retort.db import Database, model_registry, reviews
from retort.errors import ModelError
from retort.model_ref import ModelRef
from retort.protocol import workdir
from retort.protocol.workdir import journal
from retort.review.models import Decisions
from retort.storage import BytesMissing, Store

_log = structlog.get_logger()


def is_free(folder: Path) -> bool:
    """Return True if no earlier attempt's run holds the folder.

    As long as a run holds it, the run may still write to its journal.
    """
    try:
        with (folder / workdir.LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def restore(folder: Path, recovery: Mapping[str, Any], store: Store, job_id: str) -> bool:
    """Download saved files into *folder*; True when there are any.

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
    """Write the review decisions for the run, if any.

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
    """Request an early finish from this and later runs in *folder*."""
    (folder / workdir.FINISH).touch()


def bring(named: Iterable[str], database: Database, store: Store, model_dir: Path) -> None:
    """Fetch every registered model of *named* into *model_dir*, verified.

    Raises:
        ModelError: one is not registered, or the store has lost its bytes.
        StoreUnavailable, DatabaseUnavailable: try again later.

    """
    for name in named:
        reference = model_ref.parse(name)
        if reference is not None and not weights.registered_intact(reference, model_dir):
            _fetch(reference, database, store, model_dir)


def _fetch(reference: ModelRef, database: Database, store: Store, model_dir: Path) -> None:
    with database.read() as session:
        found = model_registry.find(session, reference)
        digests = [] if found is not None else [row.sha256 for row in model_registry.versions(session, reference.name)]
        key = None if found is None else found.key
    if key is None:
        message, hint = model_ref.unknown(reference, digests)
        raise ModelError(message, hint=hint)
    target = weights.registered_path(reference, model_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=target.parent) as folder:  # other runs may fetch the same at the same time
        part = Path(folder) / target.name
        try:
            store.fetch(key, part)
        except BytesMissing as error:
            hint = f"bring the file again: retort models push FILE --name {reference.name}; or look for a backup"
            raise ModelError(f"the bytes of {reference} are lost: {error.message}", hint=hint) from error
        part.replace(target)
