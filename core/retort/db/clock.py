"""The database's clock: the one that leases are measured by."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

_NOW = {
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    # Not now(): that is when the transaction began, which a long wait for a lock makes old.
    "postgresql": text("SELECT extract(epoch FROM clock_timestamp())::double precision"),
}


def now(session: Session) -> float:
    """Return unix time in seconds, to the millisecond at least, as the database sees it."""
    return float(session.connection().execute(_NOW[session.get_bind().dialect.name]).scalar_one())
