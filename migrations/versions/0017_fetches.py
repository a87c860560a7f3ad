"""Uploads that a worker fetches by URL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_COLUMNS = ("source_url", "failure", "attempts", "worker", "lease_until")


def upgrade() -> None:
    with op.batch_alter_table("uploads") as table:
        table.add_column(sa.Column("source_url", sa.String(length=2048), nullable=True))
        table.add_column(sa.Column("failure", sa.JSON(), nullable=True))
        table.add_column(sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("worker", sa.String(length=255), nullable=True))
        table.add_column(sa.Column("lease_until", sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("uploads") as table:
        for name in _COLUMNS:
            table.drop_column(name)
