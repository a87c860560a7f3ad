"""Projects, API keys, and to whom jobs, sweeps, models and idempotency keys belong."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TRIALS = "trials_kept"


def _owned(*names: str) -> tuple[sa.Column, ...]:
    """Everything of before belongs to the default project."""
    return tuple(sa.Column(name, sa.String(length=63), nullable=False, server_default="default") for name in names)


def upgrade() -> None:
    _add_keys()
    op.add_column("jobs", *_owned("project"))
    op.create_index(op.f("ix_jobs_project_id"), "jobs", ["project", "id"])
    with op.batch_alter_table("models") as models:
        for column in _owned("project", "owner"):
            models.add_column(column)
        models.drop_constraint("uq_models_name_sha256", type_="unique")
        models.create_unique_constraint(op.f("uq_models_project_name_sha256"), ["project", "name", "sha256"])
    op.create_index(op.f("ix_models_project_id"), "models", ["project", "id"])
    _own_idempotency_keys()
    _lay_trials_aside()
    with op.batch_alter_table("sweeps") as sweeps:
        sweeps.add_column(*_owned("project"))
        sweeps.drop_constraint("uq_sweeps_idempotency_key", type_="unique")
        sweeps.drop_column("idempotency_key")
    op.create_index(op.f("ix_sweeps_project_id"), "sweeps", ["project", "id"])
    _bring_trials_back()


def _add_keys() -> None:
    op.create_table(
        "projects",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_projects")),
    )
    op.execute("INSERT INTO projects (name, created_at) VALUES ('default', 0)")
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("parent_id", sa.String(length=36), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("owner", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_api_keys_secret_sha256")),
    )
    op.create_index(op.f("ix_api_keys_expires_at"), "api_keys", ["expires_at"])
    op.create_index(op.f("ix_api_keys_parent_id"), "api_keys", ["parent_id"])
    op.create_index(op.f("ix_api_keys_project_id"), "api_keys", ["project", "id"])


def _own_idempotency_keys() -> None:
    """Make the table from scratch, with the keys of jobs and of sweeps."""
    op.execute(
        "CREATE TABLE keys_kept AS SELECT jobs.project, jobs.owner, keys.key, keys.body_sha256, keys.job_id, "
        "keys.created_at FROM idempotency_keys AS keys JOIN jobs ON jobs.id = keys.job_id"
    )
    op.drop_table("idempotency_keys")
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("made_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("owner", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("project", "owner", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])
    op.create_index(op.f("ix_idempotency_keys_made_id"), "idempotency_keys", ["made_id"])
    into = "INSERT INTO idempotency_keys (project, owner, key, request_sha256, made_id, created_at) "
    op.execute(into + "SELECT project, owner, key, body_sha256, job_id, created_at FROM keys_kept")
    op.execute(
        into + "SELECT 'default', owner, idempotency_key, spec_digest, id, created_at FROM sweeps WHERE "
        "idempotency_key IS NOT NULL AND NOT EXISTS (SELECT 1 FROM keys_kept WHERE keys_kept.key = idempotency_key)"
    )
    op.execute("DROP TABLE keys_kept")


def downgrade() -> None:
    _lay_trials_aside()
    op.drop_index(op.f("ix_sweeps_project_id"), "sweeps")
    with op.batch_alter_table("sweeps") as sweeps:
        sweeps.add_column(sa.Column("idempotency_key", sa.String(length=255), nullable=True))
        sweeps.drop_column("project")
        sweeps.create_unique_constraint(op.f("uq_sweeps_idempotency_key"), ["idempotency_key"])
    _bring_trials_back()
    op.drop_table("idempotency_keys")
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_idempotency_keys_job_id"), initially="DEFERRED", deferrable=True
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )
    # The same weights under one name in several projects are one model again.
    op.execute("DELETE FROM models WHERE id NOT IN (SELECT min(id) FROM models GROUP BY name, sha256)")
    op.drop_index(op.f("ix_models_project_id"), "models")
    with op.batch_alter_table("models") as models:
        models.drop_constraint("uq_models_project_name_sha256", type_="unique")
        models.create_unique_constraint(op.f("uq_models_name_sha256"), ["name", "sha256"])
        models.drop_column("owner")
        models.drop_column("project")
    op.drop_index(op.f("ix_jobs_project_id"), "jobs")
    op.drop_column("jobs", "project")
    op.drop_table("api_keys")
    op.drop_table("projects")


def _lay_trials_aside() -> None:
    """SQLite alters sweeps by copying them, which it refuses while trials refer to them."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TABLE {_TRIALS} AS SELECT * FROM trials")
        op.execute("DELETE FROM trials")


def _bring_trials_back() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"INSERT INTO trials SELECT * FROM {_TRIALS}")
        op.execute(f"DROP TABLE {_TRIALS}")
