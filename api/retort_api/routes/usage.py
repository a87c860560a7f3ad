"""Routes that show what is used, and apply retention at once."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from retort.access import Scope
from retort.db import garbage, usage
from retort.db.session import database_now

from retort_api.deps import Caller, Router, Serving
from retort_api.errors import documented
from retort_api.schemas.usage import JobsOfOwner, ProjectUsage, Pruned, PruneShare, StoredBytes, Worked

router = Router("keeping")

_BUDGET_S = 15.0
"""For so long one request takes things away; whoever wants more asks again."""


@router.readable(
    "/v1/usage",
    scope=Scope.JOBS_READ,
    response_model=ProjectUsage,
    responses=documented("bad_parameter", "database_unavailable"),
)
def get_usage(service: Serving, caller: Caller) -> ProjectUsage:
    """Show what your project uses: bytes by owner and kind, jobs by state, and GPU seconds by month.

    An operator sees every project.
    """
    with service.read(caller) as session:
        stored, worked = usage.stored(session), usage.worked(session, now=database_now(session))
        owned = usage.jobs_by_owner(session)
    return ProjectUsage(
        stored=tuple(StoredBytes.model_validate(one) for one in stored),
        jobs=tuple(JobsOfOwner.model_validate(one) for one in owned),
        worked=tuple(Worked.model_validate(one) for one in worked),
    )


@router.post(
    "/v1/prune",
    scope=Scope.SERVICE_OPERATE,
    response_model=Pruned,
    responses=documented("bad_parameter", "store_unavailable", "database_unavailable"),
)
def prune(
    service: Serving,
    dry_run: Annotated[bool, Query(description="Say what would go, and take nothing.")] = False,
) -> Pruned:
    """Apply retention, empty the trash and collect bytes now, for some seconds; workers do so by themselves."""
    if dry_run:
        planned, waiting = service.keeper.plan()
        shares = [PruneShare(kind=one.kind, number=one.number, size_bytes=one.size_bytes) for one in planned]
        freed_bytes, done = 0, not any(one.number for one in planned)
    else:
        taken = service.keeper.round(budget_s=_BUDGET_S)
        shares = [PruneShare(kind=kind, number=number, size_bytes=None) for kind, number in taken.numbers.items()]
        freed_bytes, done = taken.freed_bytes, taken.done
        with service.database.read() as session:
            waiting = garbage.waiting(session)
    return Pruned(
        dry_run=dry_run, shares=tuple(one for one in shares if one.number), freed_bytes=freed_bytes,
        waiting_keys=waiting.keys, waiting_bytes=waiting.size_bytes, done=done,
    )  # fmt: skip
