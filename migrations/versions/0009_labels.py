"""Labels of jobs, and the text in which jobs are searched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_JOBS = sa.table("jobs", sa.column("name", sa.String()), sa.column("search", sa.Text()))


def upgrade() -> None:
    op.add_column("jobs", sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("jobs", sa.Column("search", sa.Text(), nullable=False, server_default=""))
    op.execute(_JOBS.update().values(search=sa.func.lower(_JOBS.c.name)))


def downgrade() -> None:
    op.drop_column("jobs", "search")
    op.drop_column("jobs", "labels")
