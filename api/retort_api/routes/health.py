"""Routes of liveness, readiness and Prometheus metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from retort import __version__
from retort.access import PUBLIC, Scope
from retort.db import Database, waiting, workers
from retort.db.session import database_now
from retort.errors import RetortError, TransientError
from retort.redaction import redact

from retort_api.deps import Anybody, AppState, Router, Serving
from retort_api.errors import OK, SERVICE_UNAVAILABLE, documented
from retort_api.metrics import oldest_queued_age_s
from retort_api.schemas.service import Check, Liveness, Readiness

router = Router("health")
_FORGONE = frozenset({"broker", "workers", "gpus", "disk"})
"""Checks whose failure costs no job: workers find jobs by polling, jobs wait for a worker or a GPU, and room on a full
disk is made through this service."""


@router.readable("/livez", scope=PUBLIC, response_model=Liveness, responses=documented("bad_parameter"))
def get_liveness(caller: Anybody) -> Liveness:
    """Answer while the process can; restart it when it does not. Strangers are not told the version."""
    return Liveness(status="ok", version=None if caller is None else __version__)


@router.readable(
    "/readyz",
    scope=PUBLIC,
    response_model=Readiness,
    responses={
        SERVICE_UNAVAILABLE: {
            "model": Readiness,
            "description": "A check other than those of broker, workers, GPUs and disk failed.",
        },
        **documented("bad_parameter"),
    },
)
def get_readiness(service: Serving, caller: Anybody, response: Response) -> Any:
    """Check everything that taking and serving jobs needs.

    Without its broker, without a running worker, or where one cannot use its GPUs, the service is `degraded`, not
    failed: jobs are taken, and start when a worker next polls, runs, or has a GPU. So it is without room on the disk,
    where nothing more is taken. Details are for keys with the scope
    `service:read`: all others are told which checks fail, not why.
    """
    checks = {
        "database": _check(lambda: _ask(service.database)),
        "migrations": _check(lambda: _at_head(service.database)),
        "broker": _check(service.notifier.check),
        "store": _check(lambda: _use(service)),
        "disk": _check(service.disk.check),
    }
    if checks["migrations"].status == "ok":
        checks["workers"] = _check(lambda: _have_workers(service))
        checks["gpus"] = _check(lambda: _use_gpus(service))
    failed = {name for name, check in checks.items() if check.status != "ok"}
    status = "failed" if failed - _FORGONE else "degraded" if failed else "ok"
    if status == "failed":
        response.status_code = SERVICE_UNAVAILABLE
    if caller is None or Scope.SERVICE_READ not in caller.scopes:
        bare = {name: Check(status=check.status, detail=None, duration_ms=None) for name, check in checks.items()}
        return Readiness(status=status, checks=bare, oldest_queued_age_s=None)
    age_s = _queued_age_s(service.database) if checks["migrations"].status == "ok" else None
    return Readiness(status=status, checks=checks, oldest_queued_age_s=age_s)


@router.readable(
    "/metrics",
    scope=Scope.SERVICE_READ,
    response_class=PlainTextResponse,
    responses={
        OK: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented("bad_parameter"),
    },
)
def get_prometheus_metrics(service: Serving) -> Response:
    """Show counters for Prometheus."""
    return Response(service.metrics.text(), OK, media_type=CONTENT_TYPE_LATEST)


def _check(reach: Callable[[], object]) -> Check:
    begun = time.monotonic()
    detail: str | None = None
    try:
        reach()
    except RetortError as error:
        detail = error.message
    except Exception as error:  # noqa: BLE001 - whatever is wrong is the answer
        detail = redact(f"{type(error).__name__}: {error}".partition("\n")[0])
    duration_ms = round((time.monotonic() - begun) * 1000, 1)
    return Check(status="failed" if detail else "ok", detail=detail, duration_ms=duration_ms)


def _queued_age_s(database: Database) -> float | None:
    try:
        return oldest_queued_age_s(database)
    except TransientError:
        return None


def _ask(database: Database) -> None:
    with database.read() as session:
        database_now(session)


def _use(service: AppState) -> None:
    service.store.check()  # opening it may fail as well


def _have_workers(service: AppState) -> None:
    """Refuse where no worker runs, and say since when."""
    with service.database.read() as session:
        found = workers.running(session, now=database_now(session), within_s=service.settings.lease_s)
        if workers.takers(found):
            return
        if found:
            raise TransientError("every running worker is drained, and jobs wait: let one take jobs again, on /workers")
        seen_at = waiting.last_seen(session)
    since = "none has been seen" if seen_at is None else f"the last was seen at {_utc(seen_at)}"
    raise TransientError(f"no worker is running, and jobs wait: {since}")


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _use_gpus(service: AppState) -> None:
    """Refuse where a running worker has GPUs, and can use none; one among several is in the list of workers alone."""
    with service.database.read() as session:
        running = workers.running(session, now=database_now(session), within_s=service.settings.lease_s)
        why = list(workers.refused_gpus(worker for worker in running if workers.takes_no_job(worker)))
    if why:
        raise TransientError("; ".join(why))


def _at_head(database: Database) -> None:
    from retort.db import migrate  # brings Alembic, which nothing else here needs

    current, head = migrate.current(database), migrate.head()
    if current != head:
        raise TransientError(f"the tables are at {current}, not at {head}; run: python -m retort.db upgrade")
