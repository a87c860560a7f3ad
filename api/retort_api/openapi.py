"""The OpenAPI document: what FastAPI finds, with the spec's schema and the problem in it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from retort.spec import schema, sweep_schema

from retort_api.errors import Problem
from retort_api.schemas.review import Complete, Decide

_REF = "#/components/schemas/{model}"


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document; made once per application."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
        )
        schemas: dict[str, Any] = document["components"]["schemas"]
        schemas |= _with_parts("JobSpec", schema()) | _with_parts("AdviceSpec", schema("advise"))
        schemas |= _with_parts("SweepSpec", sweep_schema())
        for model in (Problem, Decide, Complete):
            schemas |= _with_parts(model.__name__, model.model_json_schema())
        document["components"]["schemas"] = dict(sorted(schemas.items()))
        app.openapi_schema = document
    return app.openapi_schema


def _with_parts(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Move a JSON Schema and the definitions inside it to where OpenAPI keeps them."""
    parts: dict[str, Any] = document.pop("$defs", {})
    document.pop("$schema", None)
    return {part: _moved(content) for part, content in {**parts, name: document}.items()}


def _moved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _moved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item) for item in value]
    if isinstance(value, str) and value.startswith("#/$defs/"):
        return _REF.format(model=value.removeprefix("#/$defs/"))
    return value
