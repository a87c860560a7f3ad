"""Route of a job's curves as TensorBoard event files."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from fastapi import Header, Response
from retort.access import Scope
from retort.constants import HEATMAPS, Role
from retort.db import artifacts, jobs, metrics
from retort.db.artifacts import ArtifactNotFound
from retort.db.metrics import MetricSeries
from retort.db.models import ArtifactRow, JobRow
from retort.protocol.events import (
    AnyEvent,
    ArtifactEvent,
    FailedEvent,
    FinishedEvent,
    MetricEvent,
    RunFailure,
    StoppedEvent,
)
from retort.storage import BytesMissing, Store
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
        **documented(
            "job_not_found",
            "artifact_not_found",
            "bad_parameter",
            "unavailable",
            "store_unavailable",
            "database_unavailable",
        ),
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
        measured, standing = list(_measured(metrics.series(session, job_id))), _standing(job)
        sheets = [row for row in artifacts.of_job(session, job_id) if _is_sheet(row)][-_MOST_SHEETS:]
    with tempfile.TemporaryDirectory(prefix="retort-") as folder:
        drawn = _drawn(sheets, service.store, Path(folder))
        data = tensorboard.archive(opening, [*measured, *drawn, standing])
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


_MOST_SHEETS = 100
_LARGEST_SHEET = 1 << 20
_ABOUT = ("epoch", "width", "height")


def _is_sheet(row: ArtifactRow) -> bool:
    """Return True for heatmaps as a training announces them."""
    told = [row.metadata_.get(name) for name in _ABOUT]
    known = all(isinstance(value, int) and 0 <= value <= _LARGEST_SHEET for value in told)
    return row.name.startswith(HEATMAPS) and known and row.deleted_at is None and row.size_bytes <= _LARGEST_SHEET


def _drawn(rows: Iterable[ArtifactRow], store: Store, folder: Path) -> Iterator[ArtifactEvent]:
    """Fetch the heatmaps of *rows* into *folder*; the curves need none whose bytes are lost."""
    for n, row in enumerate(rows, start=1):
        path = folder / str(n)
        with contextlib.suppress(BytesMissing):
            store.fetch(row.key, path)
            yield ArtifactEvent(
                n=n, at=row.created_at, name=row.name, role=Role(row.role), path=str(path), metadata=row.metadata_
            )


def _standing(job: JobRow) -> AnyEvent:
    at = job.finished_at or job.created_at
    if job.found is not None:
        return FinishedEvent(n=1, at=at, result=job.found)
    if job.failure is not None:
        return FailedEvent(n=1, at=at, failure=RunFailure.model_validate(job.failure))
    return StoppedEvent(n=1, at=at)
