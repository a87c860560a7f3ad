"""The database: the only package that knows SQL; SQLite and PostgreSQL by one set of statements."""

from retort.db.lease import Lease, Renewal
from retort.db.session import Database, DatabaseUnavailable

__all__ = ["Database", "DatabaseUnavailable", "Lease", "Renewal"]
