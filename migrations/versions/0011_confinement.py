"""How far workers and attempts are confined."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("confinement", sa.JSON(), nullable=True))
    op.add_column("attempts", sa.Column("confinement", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("attempts", "confinement")
    op.drop_column("workers", "confinement")
