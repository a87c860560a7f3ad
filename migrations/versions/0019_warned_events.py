"""Warnings and errors of a job, found without a look at all of its events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    warned = sa.text("level IN ('warning', 'error')")
    op.create_index("ix_events_warned", "events", ["job_id", "seq"], postgresql_where=warned, sqlite_where=warned)


def downgrade() -> None:
    op.drop_index("ix_events_warned", table_name="events")
