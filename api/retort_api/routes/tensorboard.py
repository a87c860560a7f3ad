"""Route of a job's curves as TensorBoard event files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from fastapi import Header, Response
from retort.access import Scope
from retort.constants import Role
from retort.db import jobs, metrics
from retort.db.artifacts import ArtifactNotFound
from retort.db.metrics import MetricSeries
from retort.db.models import JobRow
from retort.protocol.events import AnyEvent, FailedEvent, FinishedEvent, MetricEvent, RunFailure, StoppedEvent
from retort.tracking import tensorboard
from retort.tracking.session import TrackerConfig

from retort_api import http
from retort_api.deps import Caller, JobId, Router, Serving
from retort_api.errors import NOT_MODIFIED, OK, documented

router = Router("artifacts")

_TEXT: dict[str, Any] = {"schema": {"type": "string"}}
_HEADERS = {"ETag": _TEXT, "Repr-Digest": _TEXT, "Content-Disposition": _TEXT}
_BYTES: dict[str, Any] = {tensorboard.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}


@router.readable(
    "/v1/jobs/{job_id}/artifacts/tensorboard",
    scope=Scope.JOBS_READ,
    responses={
        OK: {"description": "A ZIP file.", "headers": _HEADERS, "content": _BYTES},
        NOT_MODIFIED: {"description": "The archive is what the ETag names.", "headers": _HEADERS},
        **documented("job_not_found", "artifact_not_found", "bad_parameter", "unavailable", "database_unavailable"),
    },
    response_class=Response,
)
def download_tensorboard(
    service: Serving, caller: Caller, job_id: JobId, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Download a job's curves so far as event files for TensorBoard: a ZIP file with one folder per role."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        if not job.spec.get("tracking", {}).get("tensorboard", True):
            hint = "its spec says tracking.tensorboard: false; the curves are at /metrics"
            raise ArtifactNotFound(f"job {job_id} has no event files for TensorBoard", hint=hint)
        opening = TrackerConfig(
            kind="tensorboard",
            job_id=job_id,
            attempt=0,
            spec=job.spec,
            tags={"job_id": job_id, "state": job.state.value},
            folder=Path(),
        )
        events = [*_measured(metrics.series(session, job_id)), _standing(job)]
    data = tensorboard.archive(opening, events)
    digest = hashlib.sha256(data)
    headers = {
        "Content-Disposition": f'attachment; filename="{job.name}-tensorboard.zip"',
        "ETag": http.strong(f"sha256-{digest.hexdigest()}"),
        "Repr-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
    }
    if http.unchanged(if_none_match, headers["ETag"]):
        return Response(None, NOT_MODIFIED, headers)
    return Response(data, OK, headers, tensorboard.MEDIA_TYPE)


def _measured(curves: Iterable[MetricSeries]) -> Iterator[MetricEvent]:
    """Put the curves together again to what was measured at each step."""
    points = [
        (series.role, point.step, point.at, series.name, point.value) for series in curves for point in series.points
    ]
    points.sort(key=lambda point: point[:4])
    for n, ((role, step, at), group) in enumerate(groupby(points, key=lambda point: point[:3]), start=1):
        yield MetricEvent(n=n, at=at, role=Role(role), step=step, values={point[3]: point[4] for point in group})


def _standing(job: JobRow) -> AnyEvent:
    at = job.finished_at or job.created_at
    if job.found is not None:
        return FinishedEvent(n=1, at=at, result=job.found)
    if job.failure is not None:
        return FailedEvent(n=1, at=at, failure=RunFailure.model_validate(job.failure))
    return StoppedEvent(n=1, at=at)
