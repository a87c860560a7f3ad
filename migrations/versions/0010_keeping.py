"""The trash, what retention passes by, and keys of the store that wait for collection."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ENDED, _DELETED = sa.text("finished_at IS NOT NULL"), sa.text("deleted_at IS NOT NULL")


def upgrade() -> None:
    for name in ("jobs", "sweeps", "artifacts", "models"):
        op.add_column(name, sa.Column("deleted_at", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("purged_at", sa.Double(), nullable=True))
    for name in ("jobs", "sweeps"):
        op.add_column(name, sa.Column("keep", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("workers", sa.Column("left_at", sa.Double(), nullable=True))
    op.create_index("ix_jobs_ended", "jobs", ["finished_at"], postgresql_where=_ENDED, sqlite_where=_ENDED)
    for name in ("jobs", "artifacts"):
        where = {"postgresql_where": _DELETED, "sqlite_where": _DELETED}
        op.create_index(f"ix_{name}_deleted", name, ["deleted_at"], **where)
    for name, column in _INDEXED:
        op.create_index(op.f(f"ix_{name}_{column}"), name, [column])
    op.create_table(
        "garbage",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("phase", sa.String(length=8), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_garbage")),
    )
    op.create_index(op.f("ix_garbage_phase_at"), "garbage", ["phase", "at"])
    op.create_table(
        "installation",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_installation")),
    )


_INDEXED = (("jobs", "sweep_id"), ("artifacts", "key"), ("models", "key"))


def downgrade() -> None:
    op.drop_table("installation")
    op.drop_table("garbage")
    for name, column in _INDEXED:
        op.drop_index(op.f(f"ix_{name}_{column}"), name)
    for name in ("jobs", "artifacts"):
        op.drop_index(f"ix_{name}_deleted", name)
    op.drop_index("ix_jobs_ended", "jobs")
    op.drop_column("workers", "left_at")
    for name in ("jobs", "sweeps"):
        op.drop_column(name, "keep")
    op.drop_column("jobs", "purged_at")
    for name in ("jobs", "sweeps", "artifacts", "models"):
        op.drop_column(name, "deleted_at")
