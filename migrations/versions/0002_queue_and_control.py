"""Owners, priorities, retries that wait, time limits, early finishes, recovery points, lineage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


_PARTIAL = (
    ("ix_jobs_expiry", "expires_at", "expires_at IS NOT NULL"),
    ("ix_jobs_saved", "finished_at", "recovery IS NOT NULL"),
)


def _columns() -> tuple[sa.Column, ...]:
    return (
        sa.Column("owner", sa.String(length=63), nullable=False, server_default="default"),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("gpus", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("claimable_at", sa.Double(), nullable=False, server_default="0"),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("claimed_at", sa.Double(), nullable=True),
        sa.Column("run_s", sa.Double(), nullable=False, server_default="0"),
        sa.Column("finish_early", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("adjustments", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("recovery", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("parent_id", sa.String(length=36), nullable=True),
    )


def upgrade() -> None:
    # One by one and without a foreign key: SQLite would have to make the table anew, from under those that refer to it.
    for column in _columns():
        op.add_column("jobs", column)
    op.create_index("ix_jobs_queue", "jobs", ["state", "priority", "owner", "id"])
    op.create_index(op.f("ix_jobs_parent_id"), "jobs", ["parent_id"])
    for name, column, condition in _PARTIAL:
        where = sa.text(condition)
        op.create_index(name, "jobs", [column], postgresql_where=where, sqlite_where=where)
    # An attempt that is running while the tables change has begun when its row says so.
    op.execute(
        "UPDATE jobs SET claimed_at = (SELECT started_at FROM attempts WHERE attempts.job_id = jobs.id "
        "AND attempts.number = jobs.attempt) WHERE state IN ('running', 'cancelling')"
    )


def downgrade() -> None:
    for name, _, _ in _PARTIAL:
        op.drop_index(name, "jobs")
    op.drop_index(op.f("ix_jobs_parent_id"), "jobs")
    op.drop_index("ix_jobs_queue", "jobs")
    for column in reversed(_columns()):
        op.drop_column("jobs", column.name)
