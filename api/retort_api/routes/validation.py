"""Validate a spec against what is registered, without queueing it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from retort.access import Scope
from starlette.concurrency import run_in_threadpool

from retort_api.deps import Caller, Router, Serving
from retort_api.errors import documented
from retort_api.http import Body, read_body
from retort_api.routes.jobs import SPEC_BODY
from retort_api.schemas.validation import Validation
from retort_api.validation import validate

router = Router("jobs")


@router.post(
    "/v1/validate",
    scope=Scope.JOBS_WRITE,
    response_model=Validation,
    openapi_extra={"requestBody": SPEC_BODY},
    responses=documented(
        "unreadable_body", "body_too_large", "unsupported_media_type", "bad_spec", "bad_parameter",
        "database_unavailable",
    ),
)  # fmt: skip
async def validate_spec(service: Serving, caller: Caller, body: Annotated[Body, Depends(read_body)]) -> Any:
    """Say whether a spec would be taken, and what recorded jobs tell of its time, memory and cost.

    A spec that would not is refused with the same problem as a submission. Nothing is queued.
    """
    return await run_in_threadpool(validate, body, service, caller, caller.project)
