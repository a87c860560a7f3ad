"""Check a submission without queueing it, and estimate what it would take."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from retort.access import Principal
from retort.db import estimates, quotas
from retort.db.estimates import JobEstimate
from retort.db.session import database_now
from retort.spec import AnySpec, digest
from retort.spec.job import JobSpec

from retort_api.deps import AppState
from retort_api.http import JSON, Body
from retort_api.schemas.validation import Estimate, MemoryEstimate, TimeEstimate, UsedUp, Validation
from retort_api.spec_validation import Rights, admit, read

_HOUR_S = 3600.0


def admitted(body: Body, service: AppState, caller: Principal, project: str) -> tuple[AnySpec, tuple[str, ...]]:
    """Return the spec in *body* for *project*, and its warnings.

    Raises:
        UserError: the service would not take it.

    """
    return admitted_document(body.document(), service, caller, project)


def admitted_document(
    document: Any, service: AppState, caller: Principal, project: str
) -> tuple[AnySpec, tuple[str, ...]]:  # fmt: skip
    """Return the spec that a *document* is for *project*, and its warnings.

    Raises:
        UserError: the service would not take it.

    """
    registry = service.registry(project)
    spec = read(document, registry.digests, registry.datasets)
    return spec, admit(spec, Rights.of(caller, service.settings), registry)


def validate(body: Body, service: AppState, caller: Principal, project: str) -> Response:
    """Check a spec as a submission is checked; return the response."""
    spec, warnings = admitted(body, service, caller, project)
    return Response(validated(spec, warnings, service, caller, project).model_dump_json(), media_type=JSON)


def validated(
    spec: AnySpec, warnings: tuple[str, ...], service: AppState, caller: Principal, project: str
) -> Validation:  # fmt: skip
    """Return estimates of a valid spec, and quotas that are used up."""
    with service.read(caller) as session:
        found = estimates.estimate(session, spec)
        refused = list(quotas.Room(session, now=database_now(session)).refusals(project))
    used_up = tuple(
        UsedUp(quota=one.what, detail=one.message, hint=one.hint, retry_after_s=one.retry_after_s) for one in refused
    )
    return Validation(
        used_up=used_up,
        warnings=warnings,
        spec_digest=digest(spec),
        estimate=_shown(found, spec, service),
        spec=spec.model_dump(),
    )


def _shown(found: JobEstimate, spec: AnySpec, service: AppState) -> Estimate:
    price = service.settings.gpu_hour_price
    gpus = spec.resources.gpus if isinstance(spec, JobSpec) else 1
    times = tuple(
        TimeEstimate(
            device=one.device, seconds=one.seconds, low=one.low, high=one.high, sure=one.sure, num_jobs=one.num_jobs,
            cost=None if price is None or one.device == "cpu" else price * gpus * one.seconds / _HOUR_S,
        )
        for one in found.times
    )  # fmt: skip
    memory = found.memory and MemoryEstimate(step_bytes=found.memory.step_bytes, num_jobs=found.memory.num_jobs)
    currency = service.settings.currency if any(one.cost is not None for one in times) else None
    return Estimate(time=times, memory=memory, currency=currency, source=_source(found))


def _source(found: JobEstimate) -> str:
    number = sum(one.num_jobs for one in found.times)
    if not number:
        return "no recorded job has trained the same networks on the same data: nothing is known of time and memory"
    jobs = "one recorded job" if number == 1 else f"{number} recorded jobs"
    return f"from {jobs} with the same data, networks, image size and batch; times are scaled by the epochs"
