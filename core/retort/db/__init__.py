"""Access the database, SQLite or PostgreSQL; the only package with SQL."""

from sqlalchemy.orm import Session

from retort.db import identity_models, webhook_models  # noqa: F401 - the tables put themselves into the metadata
from retort.db.session import Database, DatabaseUnavailable
from retort.db.transitions import Lease, Renewal

__all__ = ["Database", "DatabaseUnavailable", "Lease", "Renewal", "Session"]
