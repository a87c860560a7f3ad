"""Advice: which of some teachers should teach, measured by a worker."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Response
from retort.access import Scope
from retort.db import jobs
from retort.errors import FieldProblem, SpecError
from retort.spec import AdviceSpec, AnySpec
from starlette.concurrency import run_in_threadpool

from retort_api.deps import AppState, Router, Serving
from retort_api.errors import ACCEPTED, documented
from retort_api.http import JSON, YAML, Body, read_body
from retort_api.routes.jobs import SUBMITTED_HEADERS, submit
from retort_api.schemas.jobs import Job
from retort_api.spec_validation import Rights, admit, read
from retort_api.terms import SubmissionTerms, Terms

router = Router("advice")

_SPEC = {"schema": {"$ref": "#/components/schemas/AdviceSpec"}}


@router.post(
    "/v1/advise", scope=Scope.JOBS_WRITE,
    status_code=ACCEPTED,
    response_model=Job,
    openapi_extra={"requestBody": {"required": True, "content": {JSON: _SPEC, YAML: _SPEC}}},
    responses={
        ACCEPTED: {"headers": SUBMITTED_HEADERS},
        **documented(
            "forbidden", "project_not_found", "unreadable_body", "body_too_large", "unsupported_media_type", "bad_spec",
            "bad_parameter",
            "idempotency_key_reused", "database_unavailable",
        ),
    },
)  # fmt: skip
async def advise(
    *,
    service: Serving,
    response: Response,
    body: Annotated[Body, Depends(read_body)],
    terms: Terms,
) -> Any:
    """Ask which of some teachers should teach a student on some data.

    The answer is a job like any other: a worker measures student and candidates on the validation images, and the
    job's result compares them and recommends one, or none, with reasons. An `Idempotency-Key` works as for jobs.
    """
    spec = await run_in_threadpool(_admitted, body, service, terms)
    submission = jobs.Submission(
        spec=spec, retries=service.settings.max_retries, project=terms.project, owner=terms.owner,
        priority=terms.priority, key=terms.key(spec),
    )  # fmt: skip
    return await submit(service, terms.caller, submission, response)


def _admitted(body: Body, service: AppState, terms: SubmissionTerms) -> AnySpec:
    registry = service.registry(terms.project)
    document = body.document()
    document = {"task": "advise", **document} if isinstance(document, dict) else document
    spec = read(document, registry.digests, registry.datasets)
    if not isinstance(spec, AdviceSpec):
        raise SpecError(
            [FieldProblem("task", f"must be advise here, not {spec.task}", "POST /v1/jobs takes other tasks")]
        )
    admit(spec, Rights.of(terms.caller, service.settings), registry)
    return spec
