"""How often a job may be tried again without getting further."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("retries", sa.Integer(), nullable=False, server_default="0"))
    # What a job of before was given is not on record; what it has left is the least of it.
    op.execute("UPDATE jobs SET retries = retries_left")


def downgrade() -> None:
    op.drop_column("jobs", "retries")
