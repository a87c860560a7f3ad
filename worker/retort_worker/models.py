"""Registered models that a spec names, brought from the store into the model folder, where the run reads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from retort import references
from retort.artifacts import BytesMissing, Store
from retort.db import Database, registry
from retort.errors import ModelError
from retort.intake import registered
from retort.references import Reference


def bring(named: Iterable[str], database: Database, store: Store, model_dir: Path) -> None:
    """See to it that every registered model among *named* lies whole and right in *model_dir*.

    Raises:
        ModelError: one is not registered, or the store has lost its bytes.
        StoreUnavailable, DatabaseUnavailable: try again later.

    """
    for name in named:
        reference = references.parse(name)
        if reference is not None and not registered.intact(reference, model_dir):
            _fetch(reference, database, store, model_dir)


def _fetch(reference: Reference, database: Database, store: Store, model_dir: Path) -> None:
    with database.read() as session:
        found = registry.find(session, reference)
        digests = [] if found is not None else [row.sha256 for row in registry.versions(session, reference.name)]
        key = None if found is None else found.key
    if key is None:
        message, hint = registry.unknown(reference, digests)
        raise ModelError(message, hint=hint)
    target = registered.path(reference, model_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=target.parent) as folder:  # other runs may fetch the same at the same time
        part = Path(folder) / target.name
        try:
            store.fetch(key, part)
        except BytesMissing as error:
            hint = f"bring the file again: retort models push FILE --name {reference.name}; or look for a backup"
            raise ModelError(f"the bytes of {reference} are lost: {error.message}", hint=hint) from error
        part.replace(target)
