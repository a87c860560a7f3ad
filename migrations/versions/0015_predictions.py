"""Images whose boxes somebody waits for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("image", sa.LargeBinary(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("imgsz", sa.Integer(), nullable=False),
        sa.Column("weights", sa.String(255), nullable=False),
        sa.Column("claimed_at", sa.Double()),
        sa.Column("answer", sa.JSON()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_predictions"),
    )
    op.create_index("ix_predictions_claimed_at_created_at", "predictions", ["claimed_at", "created_at"])
    op.create_index("ix_predictions_project_id", "predictions", ["project", "id"])


def downgrade() -> None:
    op.drop_table("predictions")
