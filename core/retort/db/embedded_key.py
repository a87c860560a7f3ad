"""Keep the operator's key of a service on one machine in its home folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from retort import access
from retort.access import KEY_FILE, ClientRole
from retort.db import audit, keys
from retort.db.audit import Act
from retort.db.session import Database, database_now
from retort.files import sync_folder

_NAME = "this machine"


def ensure(database: Database, home: Path) -> Path:
    """Create the key file of the home unless valid; return it.

    A key that the database does not know, because it is a new one, is made known: whoever has read the file keeps
    working. One that was revoked or has expired is replaced.
    """
    path = home / KEY_FILE
    with suppress(FileNotFoundError):
        path.chmod(0o600)
    secret = access.read_key_file(path)
    with database.begin() as session:
        now = database_now(session)
        if secret is not None:
            if keys.find(session, [access.digest_of(secret)], now=now):
                return path
            if keys.was_known(session, secret):
                secret = None
        made, secret = keys.create(session, keys.NewKey(name=_NAME, role=ClientRole.OPERATOR), now=now, secret=secret)
        act = Act(
            project=made.project, owner=made.owner, key_id="", action="retort up", target=made.id, address="local"
        )  # fmt: skip
        audit.write(session, act, now=now)
        _write(path, secret)
    return path


def _write(path: Path, secret: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{secret}\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)
