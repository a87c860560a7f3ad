"""What all that the API says has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, WithJsonSchema


class Out(BaseModel):
    """A value that leaves the service; times are UTC."""

    model_config = ConfigDict(from_attributes=True, frozen=True, populate_by_name=True, use_attribute_docstrings=True)


def job_path(job_id: str) -> str:
    """Return the address of a job."""
    return f"/v1/jobs/{job_id}"


def sweep_path(sweep_id: str) -> str:
    """Return the address of a sweep."""
    return f"/v1/sweeps/{sweep_id}"


def documented_as(*models: str) -> WithJsonSchema:
    """Describe in the contract what is kept and sent as plain JSON: as any of *models*, which the contract has."""
    # A bare $ref pydantic would look up among its own definitions, and fail.
    return WithJsonSchema({"anyOf": [{"$ref": f"#/components/schemas/{model}"} for model in models]})


def shown(row: object, model: type[Out], **given: Any) -> dict[str, Any]:
    """Take from *row* the fields of *model* that are not given."""
    return {**{name: getattr(row, name) for name in model.model_fields if name not in given}, **given}
