"""What all tables stand on: their base, the types of their columns, and how ids are made."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import uuid_utils
from sqlalchemy import JSON, BigInteger, Double, Enum, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase

JOB_PREFIX = "job_"
ARTIFACT_PREFIX = "art_"
SWEEP_PREFIX = "swp_"
MODEL_PREFIX = "mdl_"

Id = String(36)
Count = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only for INTEGER


def new_id(prefix: str) -> str:
    """Make an id that sorts by the time of its making (UUIDv7)."""
    return prefix + uuid_utils.uuid7().hex


def state_of(kind: type[StrEnum]) -> Enum:
    """Store the value as text without a check, so that a new state needs no migration of old rows."""
    return Enum(
        kind, native_enum=False, length=16, create_constraint=False, values_callable=lambda e: [m.value for m in e]
    )


class Base(DeclarativeBase):
    """All tables; times are unix seconds by the database's clock, as doubles."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {float: Double(), dict[str, Any]: JSON(none_as_null=True)}  # noqa: RUF012 - read by SQLAlchemy
