"""Where Alembic meets the tables; the connection comes from retort.db.migrate."""

from __future__ import annotations

from alembic import context
from retort.db import models  # noqa: F401 - the tables put themselves into the metadata
from retort.db.models import Base

connection = context.config.attributes.get("connection")
if connection is None:
    message = "run `python -m retort.db upgrade` instead of alembic itself"
    raise SystemExit(message)
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",  # SQLite alters a table by copying it
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
