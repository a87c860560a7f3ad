"""The database: the only package that knows SQL; SQLite and PostgreSQL by one set of statements."""

from retort.db.session import Database, DatabaseUnavailable
from retort.db.transitions import Lease, Renewal

__all__ = ["Database", "DatabaseUnavailable", "Lease", "Renewal"]
