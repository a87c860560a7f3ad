"""Keys for tests: of an operator, who may do everything, and of anybody else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from retort.access import DEFAULT_OWNER, DEFAULT_PROJECT, KEY_FILE, ClientRole, spell_secret
from retort.db import Database, keys
from retort.db.session import database_now


def secret_of(name: str) -> str:
    """Return the key that a test names so; the same in every process."""
    return spell_secret(hashlib.sha256(name.encode()).digest())


def headers_of(name: str) -> dict[str, str]:
    """Return the headers of requests with the key that a test names so."""
    return {"Authorization": f"Bearer {secret_of(name)}"}


OPERATOR = secret_of("operator")
"""The operator's key, which every test database knows (``seed``)."""
HEADERS = headers_of("operator")


def add_key(
    database: Database,
    name: str,
    role: ClientRole,
    *,
    project: str = DEFAULT_PROJECT,
    owner: str = DEFAULT_OWNER,
    **about: Any,
) -> dict[str, str]:
    """Make the key that a test names so, and its project; return the headers of requests with it."""
    with database.begin() as session:
        now = database_now(session)
        keys.create_project(session, project, now=now)
        wanted = keys.NewKey(name=name, role=role, project=project, owner=owner, **about)
        keys.create(session, wanted, now=now, secret=secret_of(name))
    return headers_of(name)


def keep(home: Path) -> None:
    """Put the operator's key where a service on this machine keeps it."""
    (home / KEY_FILE).write_text(f"{OPERATOR}\n")


def seed(database: Database) -> None:
    """Make the operator's key."""
    add_key(database, "operator", ClientRole.OPERATOR)
