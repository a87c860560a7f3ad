"""What people decide about pseudo-labels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reviews",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("image", sa.String(length=128), nullable=False),
        sa.Column("decision", sa.String(length=8), nullable=False),
        sa.Column("boxes", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("reviewer", sa.String(length=63), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("seen", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_reviews_job_id")),
        sa.PrimaryKeyConstraint("job_id", "image", name=op.f("pk_reviews")),
    )


def downgrade() -> None:
    op.drop_table("reviews")
