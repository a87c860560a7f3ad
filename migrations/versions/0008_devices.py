"""What devices workers have, and which jobs insist on a GPU."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_JOBS = sa.table("jobs", sa.column("require_gpu", sa.Boolean()), sa.column("spec", sa.JSON()))


def upgrade() -> None:
    op.add_column("workers", sa.Column("devices", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("jobs", sa.Column("require_gpu", sa.Boolean(), nullable=True))
    op.execute(_JOBS.update().values(require_gpu=_JOBS.c.spec["resources"]["require_gpu"].as_boolean()))


def downgrade() -> None:
    op.drop_column("jobs", "require_gpu")
    op.drop_column("workers", "devices")
