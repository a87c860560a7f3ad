"""Routes of the JSON Schemas of specs and sweeps, and recipes."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import JSONResponse
from retort.access import Scope
from retort.spec import RECIPES, schema, sweep_schema

from retort_api.deps import Router
from retort_api.errors import OK, documented
from retort_api.schemas.service import Recipe, Recipes

router = Router("reference")

_SCHEMA_TYPE = "application/schema+json"


@router.readable(
    "/v1/schema",
    scope=Scope.JOBS_READ,
    response_class=JSONResponse,
    responses={
        OK: {"description": "JSON Schema, 2020-12.", "content": {_SCHEMA_TYPE: {"schema": {"type": "object"}}}},
        **documented("bad_parameter"),
    },
)
def get_schema(
    task: Annotated[Literal["distill", "advise", "evaluate"], Query(description="What the spec asks for.")] = "distill",
) -> JSONResponse:
    """Show the JSON Schema of the spec, for editors and for programs that write specs."""
    return JSONResponse(schema(task), media_type=_SCHEMA_TYPE)


@router.readable(
    "/v1/schema/sweep",
    scope=Scope.JOBS_READ,
    response_class=JSONResponse,
    responses={
        OK: {"description": "JSON Schema, 2020-12.", "content": {_SCHEMA_TYPE: {"schema": {"type": "object"}}}},
        **documented("bad_parameter"),
    },
)
def get_sweep_schema() -> JSONResponse:
    """Show the JSON Schema of the sweep, with that of the spec inside it."""
    return JSONResponse(sweep_schema(), media_type=_SCHEMA_TYPE)


@router.readable("/v1/recipes", scope=Scope.JOBS_READ, response_model=Recipes, responses=documented("bad_parameter"))
def list_recipes() -> Recipes:
    """List the presets of the distillation section, written out."""
    return Recipes(data=tuple(Recipe.model_validate({"name": name, **preset}) for name, preset in RECIPES.items()))
