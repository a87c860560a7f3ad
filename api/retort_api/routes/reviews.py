"""Routes of the pseudo-label review: images, decisions, import and export."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Header, Path, Query, Response
from retort.access import Scope
from retort.db import reviews
from retort.db.session import database_now
from retort.review import formats
from retort.review.models import IMAGE, REVIEWER, SOMEBODY

from retort_api import http, reviewing
from retort_api.deps import Caller, JobId, Router, Serving
from retort_api.errors import OK, documented
from retort_api.file_response import FILE_POLICY
from retort_api.http import JSON, read_decision, read_patch, read_upload
from retort_api.routes.jobs import HEADERS, read_job
from retort_api.schemas.bulk import Time
from retort_api.schemas.jobs import Job
from retort_api.schemas.reviews import Review, ReviewImage, ReviewImagePage

router = Router("review")

_READING = (
    "job_not_found",
    "review_not_found",
    "bad_parameter",
    "artifact_bytes_missing",
    "database_unavailable",
    "store_unavailable",
)
_WRITING = (*_READING, "job_already_finished", "wrong_state", "bad_review")
_BODIES = ("unreadable_body", "body_too_large", "unsupported_media_type")
FormName = Annotated[
    Literal["coco", "yolo", "cvat", "label_studio"], Query(alias="format", description="Whose form the file has.")
]
Image = Annotated[str, Path(description="Such as `train-0001`.")]
Seen = Annotated[str | None, Header(description="The `version` of the image as you have seen it, in quotes.")]
_TAG = {"ETag": {"description": "The image's version.", "schema": {"type": "string"}}}
Reviewer = Annotated[str, Query(pattern=REVIEWER, description="Who has looked.")]


def _body(model: str, *, required: bool) -> dict[str, Any]:
    content = {JSON: {"schema": {"$ref": f"#/components/schemas/{model}"}}}
    return {"requestBody": {"required": required, "content": content}}


@router.readable(
    "/v1/jobs/{job_id}/review", scope=Scope.JOBS_READ, response_model=Review, responses=documented(*_READING)
)
def get_review(service: Serving, caller: Caller, job_id: JobId) -> Review:
    """Say how far the review of a job's pseudo-labels is."""
    return reviewing.summary(service, caller, job_id)


@router.readable(
    "/v1/jobs/{job_id}/review/images",
    scope=Scope.JOBS_READ,
    response_model=ReviewImagePage,
    responses=documented(*_READING),
)
def list_review_images(
    *,
    service: Serving,
    caller: Caller,
    response: Response,
    job_id: JobId,
    decided: Annotated[
        bool | None, Query(description="Only images that somebody, or nobody, has decided about.")
    ] = None,
    decided_since: Annotated[
        Time | None, Query(description="Only images that were decided about then or later: what others do meanwhile.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", pattern=IMAGE)] = None,
) -> ReviewImagePage:
    """List the images to look at, with the teacher's boxes and what was decided, by name."""
    since = None if decided_since is None else decided_since.timestamp()
    page = reviewing.images(
        service, caller, job_id, decided=decided, since=since, limit=limit, cursor=cursor
    )  # fmt: skip
    if page.has_more:
        narrowed = {} if decided is None else {"decided": str(decided).lower()}
        narrowed |= {} if decided_since is None else {"decided_since": decided_since.isoformat()}
        response.headers["Link"] = reviewing.link_to_next(job_id, page, narrowed, limit)
    return page


@router.readable(
    "/v1/jobs/{job_id}/review/images/{image}",
    scope=Scope.JOBS_READ,
    response_model=ReviewImage,
    responses={OK: {"headers": _TAG}, **documented("image_not_found", *_READING)},
)
def get_review_image(
    service: Serving, caller: Caller, job_id: JobId, image: Image, response: Response
) -> ReviewImage:  # fmt: skip
    """Show one image with the teacher's boxes and what was decided."""
    return _tagged(reviewing.image_of(service, caller, job_id, image), response)


@router.put(
    "/v1/jobs/{job_id}/review/images/{image}",
    scope=Scope.JOBS_WRITE,
    response_model=ReviewImage,
    openapi_extra=_body("Decide", required=True),
    responses={OK: {"headers": _TAG}, **documented(*_BODIES, "image_not_found", "version_conflict", *_WRITING)},
)
def decide_review_image(
    *,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    image: Image,
    document: Annotated[Any, Depends(read_decision)],
    response: Response,
    if_match: Seen = None,
) -> ReviewImage:
    """Decide about one image, in place of what was decided before.

    `accept` takes the teacher's boxes, `reject` leaves the image out, `edit` puts the `boxes` on it that are sent: all
    that there is to see, for what is not in them counts as background.

    With `If-Match` nothing changes if somebody else has decided about the image since.
    """
    return _tagged(reviewing.decide(service, caller, job_id, image, document, if_match=if_match), response)


@router.delete(
    "/v1/jobs/{job_id}/review/images/{image}",
    scope=Scope.JOBS_WRITE,
    response_model=ReviewImage,
    responses={OK: {"headers": _TAG}, **documented("image_not_found", "version_conflict", *_WRITING)},
)
def withdraw_review_decision(
    *, service: Serving, caller: Caller, job_id: JobId, image: Image, response: Response, if_match: Seen = None
) -> ReviewImage:
    """Withdraw what was decided about one image: it is open again.

    With `If-Match` nothing changes if somebody else has decided about the image since.
    """
    return _tagged(reviewing.withdraw(service, caller, job_id, image, if_match=if_match), response)


@router.post(
    "/v1/jobs/{job_id}/review/complete",
    scope=Scope.JOBS_WRITE,
    response_model=Job,
    openapi_extra=_body("Complete", required=False),
    responses={
        OK: {"model": Job, "description": "The job is queued.", "headers": HEADERS},
        **documented(*_BODIES, "review_open", *_WRITING),
    },
)
def complete_review(
    service: Serving, caller: Caller, job_id: JobId, response: Response, document: Annotated[Any, Depends(read_patch)]
) -> Job:
    """Complete the review: the job goes on with what was decided, and decisions are final.

    It is refused while images are open, unless `{"rest": "accept"}` or `{"rest": "reject"}` says what becomes of them.
    """
    reviewing.complete(service, caller, job_id, document)
    return read_job(service, caller, job_id, response)


@router.readable(
    "/v1/jobs/{job_id}/review/export",
    scope=Scope.JOBS_READ,
    response_class=Response,
    responses={
        OK: {
            "description": "The images that were not rejected, with the boxes that they have now.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **documented(*_READING),
    },
)
def export_review(service: Serving, caller: Caller, job_id: JobId, form_name: FormName) -> Response:
    """Export the review for another tool: COCO, YOLO, CVAT or Label Studio."""
    proposals = reviewing.proposals_of(service, caller, job_id)
    with service.read(caller) as session:
        decisions = {found.image: found for found in reviews.of_job(session, job_id)}
    form = formats.annotation_format(form_name)
    data = form.write(formats.annotated_images(proposals, decisions))
    headers = {
        "Content-Disposition": f'attachment; filename="{job_id}-{form_name}{form.suffix}"',
        "Content-Security-Policy": FILE_POLICY,
    }
    return Response(data, OK, headers, form.media_type)


@router.post(
    "/v1/jobs/{job_id}/review/import",
    scope=Scope.JOBS_WRITE,
    response_model=Review,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    responses=documented("body_too_large", *_WRITING),
)
def import_review(
    service: Serving,
    caller: Caller,
    job_id: JobId,
    form_name: FormName,
    data: Annotated[bytes, Depends(read_upload)],
    *,
    reviewer: Reviewer = SOMEBODY,
    looked_at: Annotated[
        formats.LookedAt,
        Query(description="Whether images whose boxes are still the teacher's were looked at; Label Studio says so."),
    ] = "changed",
) -> Review:
    """Import what another tool has made of an export: its boxes replace those of the images in it.

    Images that are not in the file, or that nobody has looked at, stay as they are. A file with a mistake changes
    nothing.
    """
    proposals = reviewing.proposals_of(service, caller, job_id)
    with service.read(caller) as session:
        now = database_now(session)
    imported = formats.import_decisions(
        proposals, form_name, data, reviewer=reviewer, at=now, looked_at=looked_at
    )  # fmt: skip
    with service.begin(caller) as session:
        reviews.decide(session, job_id, imported.decisions)
    return reviewing.summary(service, caller, job_id, imported.notes)


def _tagged(shown: ReviewImage, response: Response) -> ReviewImage:
    response.headers["ETag"] = http.strong(shown.version)
    return shown
