"""List what a job has published: download, digest, and lines that use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from retort.access import Scope
from retort.db import artifacts, jobs
from retort.db.models import ArtifactRow, JobRow
from retort.report.forms import described
from retort.report.usage import Snippet, export_lines, usage
from retort.spec.evaluated import EvaluationResult
from retort.spec.exported import MeasuredExport
from retort.spec.result import JobResult

from retort_api.deps import IDEMPOTENCY_KEY, Caller, JobId, Serving
from retort_api.file_response import REPORT
from retort_api.pages.job_export import FORMS, published_student, submit_export
from retort_api.pages.job_head import show
from retort_api.pages.job_use import more_lines
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import see_other

router = PageRouter()

_STUDENT = "student.pt"
_PICTURES = "review/"


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One artifact, as the list shows it."""

    name: str
    path: str
    role: str
    size_bytes: int
    sha256: str
    created_at: float
    about: str


@router.page("/jobs/{job_id}/files", scope=Scope.JOBS_READ)
def show_files(request: Request, service: Serving, caller: Caller, job_id: JobId) -> HTMLResponse:
    """List the job's files, and say how to use them."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        rows = [row for row in artifacts.of_job(session, job_id) if row.deleted_at is None]
        pictures = [row for row in rows if row.name.startswith(_PICTURES)]
        files = [_file(row) for row in rows if not row.name.startswith(_PICTURES)]
        result = job.found if isinstance(job.found, JobResult) else None
        snippets = lines_of(job, rows)
        model = None if result is None else published_student(session, job)
    exports = job.found.exports if isinstance(job.found, JobResult | EvaluationResult) else ()
    measured = [one for one in exports if isinstance(one, MeasuredExport)]
    forms = [(one, said) for one in measured if (said := described(one))]
    return show(
        request, service, caller, job_id, "files", "job_files.html", files=files, num_pictures=len(pictures),
        snippets=snippets, forms=forms, report=any(file.name == REPORT for file in files),
        export=() if model is None else FORMS,
    )  # fmt: skip


@router.form("/jobs/{job_id}/export", scope=Scope.JOBS_WRITE)
def export_more(
    *, request: Request, service: Serving, caller: Caller, job_id: JobId,
    form: Annotated[str, Form(pattern=r"^[a-z0-9]{1,20}-[a-z0-9]{1,10}$")],
    key: Annotated[str | None, Form(pattern=IDEMPOTENCY_KEY)] = None,
) -> RedirectResponse:  # fmt: skip
    """Queue a job that makes one more file of the published student."""
    made = submit_export(service, caller, job_id, form, key)
    return see_other(request, f"/jobs/{made}", "This job makes the file, and measures it.")


@router.page("/jobs/{job_id}/report", scope=Scope.JOBS_READ)
def show_report(request: Request, service: Serving, caller: Caller, job_id: JobId) -> HTMLResponse:
    """Show the report in place, in a frame that reaches nothing of this page."""
    with service.read(caller) as session:
        jobs.get(session, job_id)
        row = artifacts.named(session, job_id, REPORT)
    return show(request, service, caller, job_id, "files", "job_report.html", file=_file(row))


def _file(row: ArtifactRow) -> ListedFile:
    told = row.metadata_
    parts = [f"epoch {told['epoch']}" if isinstance(told.get("epoch"), int) else "", str(told.get("precision") or "")]
    path = f"/v1/jobs/{row.job_id}/artifacts/{quote(row.name)}"
    about = ", ".join(part for part in parts if part)
    return ListedFile(row.name, path, row.role, row.size_bytes, row.sha256, row.created_at, about)


def lines_of(job: JobRow, rows: Sequence[ArtifactRow]) -> Sequence[Snippet]:
    """Return lines that use the files that are still there."""
    result, there = job.found, {row.name for row in rows if row.deleted_at is None}
    if isinstance(result, EvaluationResult):
        forms = tuple(one for one in result.exports if set(one.files) <= there)
        imgsz = result.networks[0].imgsz
        return (*export_lines(forms, imgsz), *more_lines(forms, imgsz))
    if not isinstance(result, JobResult) or _STUDENT not in there:
        return ()
    exports = tuple(one for one in result.exports if set(one.files) <= there)
    known = result.model_copy(update={"exports": exports})
    return (*usage(job.id, _STUDENT, known).snippets, *more_lines(exports, result.roles.student.imgsz or 640))
