"""Routes of the pseudo-label review: images, decisions, import and export."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Depends, Path, Query, Response
from retort.access import Principal, Scope
from retort.db import jobs, reviews
from retort.db.session import database_now
from retort.review import formats
from retort.review.models import IMAGE, REVIEWER, SOMEBODY, ImageDecision, ReviewSet

from retort_api.deps import AppState, Caller, JobId, Router, Serving
from retort_api.errors import OK, documented
from retort_api.file_response import FILE_POLICY
from retort_api.http import JSON, read_decision, read_patch, read_upload
from retort_api.review_access import find_picture, resolve_boxes, validate_decision
from retort_api.routes.jobs import HEADERS, read_job
from retort_api.schemas.jobs import Job
from retort_api.schemas.reviews import Complete, Decide, Review, ReviewImage, ReviewImagePage

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
Reviewer = Annotated[str, Query(pattern=REVIEWER, description="Who has looked.")]


def _body(model: str, *, required: bool) -> dict[str, Any]:
    content = {JSON: {"schema": {"$ref": f"#/components/schemas/{model}"}}}
    return {"requestBody": {"required": required, "content": content}}


@router.readable(
    "/v1/jobs/{job_id}/review", scope=Scope.JOBS_READ, response_model=Review, responses=documented(*_READING)
)
def get_review(service: Serving, caller: Caller, job_id: JobId) -> Review:
    """Say how far the review of a job's pseudo-labels is."""
    return _summary(service, caller, job_id)


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
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", pattern=IMAGE)] = None,
) -> ReviewImagePage:
    """List the images to look at, with the teacher's boxes and what was decided, by name."""
    pictures = [one for one in _proposals(service, caller, job_id).pictures if cursor is None or one.image > cursor]
    if decided is None:
        pictures = pictures[: limit + 1]
    with service.read(caller) as session:
        found = reviews.of_job(session, job_id, [one.image for one in pictures] if decided is None else None)
    decisions = {decision.image: decision for decision in found}
    pictures = [one for one in pictures if decided in {None, one.image in decisions}]
    shown = tuple(ReviewImage.of(job_id, one, decisions.get(one.image)) for one in pictures[:limit])
    following = shown[-1].image if len(pictures) > limit else None
    if following:
        narrowed = {} if decided is None else {"decided": str(decided).lower()}
        query = urlencode({**narrowed, "limit": limit, "cursor": following})
        response.headers["Link"] = f'</v1/jobs/{job_id}/review/images?{query}>; rel="next"'
    return ReviewImagePage(data=shown, next_cursor=following, has_more=following is not None)


@router.put(
    "/v1/jobs/{job_id}/review/images/{image}",
    scope=Scope.JOBS_WRITE,
    response_model=ReviewImage,
    openapi_extra=_body("Decide", required=True),
    responses=documented(*_BODIES, "image_not_found", *_WRITING),
)
def decide_review_image(
    service: Serving, caller: Caller, job_id: JobId, image: Image, document: Annotated[Any, Depends(read_decision)]
) -> ReviewImage:
    """Decide about one image, in place of what was decided before.

    `accept` takes the teacher's boxes, `reject` leaves the image out, `edit` puts the `boxes` on it that are sent: all
    that there is to see, for what is not in them counts as background.
    """
    proposals = _proposals(service, caller, job_id)
    picture = find_picture(proposals, image)
    wanted = validate_decision(Decide, document)
    boxes = resolve_boxes(wanted.boxes, proposals)
    with service.begin(caller) as session:
        about = {"image": image, "reviewer": wanted.reviewer, "at": database_now(session)}
        decision = validate_decision(ImageDecision, {**about, "decision": wanted.decision, "boxes": boxes})
        reviews.decide(session, job_id, [decision])
    return ReviewImage.of(job_id, picture, decision)


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
    proposals = _proposals(service, caller, job_id)
    wanted = validate_decision(Complete, document)
    with service.begin(caller) as session:
        reviews.complete(
            session, job_id, proposals, rest=wanted.rest, reviewer=wanted.reviewer, now=database_now(session),
            actor="client",
        )  # fmt: skip
    service.notifier.notify(job_id)
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
    proposals, decisions = _both(service, caller, job_id)
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
    proposals = _proposals(service, caller, job_id)
    with service.read(caller) as session:
        now = database_now(session)
    imported = formats.import_decisions(
        proposals, form_name, data, reviewer=reviewer, at=now, looked_at=looked_at
    )  # fmt: skip
    with service.begin(caller) as session:
        reviews.decide(session, job_id, imported.decisions)
    return _summary(service, caller, job_id, imported.notes)


def _proposals(service: AppState, caller: Principal, job_id: str) -> ReviewSet:
    return service.reviews.of_job(service.database, caller.reach, service.store, job_id)


def _both(service: AppState, caller: Principal, job_id: str) -> tuple[ReviewSet, dict[str, ImageDecision]]:
    proposals = _proposals(service, caller, job_id)
    with service.read(caller) as session:
        return proposals, {found.image: found for found in reviews.of_job(session, job_id)}


def _summary(service: AppState, caller: Principal, job_id: str, notes: tuple[str, ...] = ()) -> Review:
    proposals, decisions = _both(service, caller, job_id)
    with service.read(caller) as session:
        state = jobs.get(session, job_id).state
    return Review.of(job_id, state, formats.summary(proposals, decisions), notes)
