"""Show reviews and decide about their images, for routes and pages alike."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlencode

from retort.access import Principal
from retort.db import jobs, reviews
from retort.db.session import database_now
from retort.review import formats
from retort.review.models import ImageDecision, ReviewSet

from retort_api import http
from retort_api.deps import AppState
from retort_api.review_access import find_picture, resolve_boxes, validate_decision
from retort_api.schemas.reviews import Complete, Decide, Review, ReviewImage, ReviewImagePage


def proposals_of(service: AppState, caller: Principal, job_id: str) -> ReviewSet:
    """Return the images of a job's review with the teacher's boxes."""
    return service.reviews.of_job(service.database, caller.reach, service.store, job_id)


def summary(service: AppState, caller: Principal, job_id: str, notes: tuple[str, ...] = ()) -> Review:
    """Say how far a review is."""
    proposals = proposals_of(service, caller, job_id)
    with service.read(caller) as session:
        decisions = {found.image: found for found in reviews.of_job(session, job_id)}
        state = jobs.get(session, job_id).state
    return Review.of(job_id, state, formats.summary(proposals, decisions), notes)


def images(
    service: AppState,
    caller: Principal,
    job_id: str,
    *,
    decided: bool | None = None,
    since: float | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> ReviewImagePage:
    """List images behind *cursor* with their decisions, by name."""
    pictures = [one for one in proposals_of(service, caller, job_id).pictures if cursor is None or one.image > cursor]
    whole = decided is None and since is None
    if whole:
        pictures = pictures[: limit + 1]
    with service.read(caller) as session:
        found = reviews.of_job(session, job_id, [one.image for one in pictures] if whole else None, since=since)
    decisions = {decision.image: decision for decision in found}
    if since is not None:
        pictures = [one for one in pictures if one.image in decisions]
    pictures = [one for one in pictures if decided in {None, one.image in decisions}]
    shown = tuple(ReviewImage.of(job_id, one, decisions.get(one.image)) for one in pictures[:limit])
    following = shown[-1].image if len(pictures) > limit else None
    return ReviewImagePage(data=shown, next_cursor=following, has_more=following is not None)


def link_to_next(job_id: str, page: ReviewImagePage, query: dict[str, str], limit: int) -> str:
    """Return the Link header to the page behind *page*."""
    asked = urlencode({**query, "limit": limit, "cursor": page.next_cursor})
    return f'</v1/jobs/{job_id}/review/images?{asked}>; rel="next"'


def image_of(service: AppState, caller: Principal, job_id: str, image: str) -> ReviewImage:
    """Return one image with what was decided about it.

    Raises:
        ImageNotFound: the review has none of this name.

    """
    picture = find_picture(proposals_of(service, caller, job_id), image)
    with service.read(caller) as session:
        found = reviews.of_job(session, job_id, [image])
    return ReviewImage.of(job_id, picture, found[0] if found else None)


def decide(
    service: AppState, caller: Principal, job_id: str, image: str, document: object, *, if_match: str | None
) -> ReviewImage:
    """Decide about one image, in place of what was decided before.

    Raises:
        BadDecision, ReviewError: *document* is no decision about it.
        DecisionConflict: the image is not what *if_match* names any more.

    """
    proposals = proposals_of(service, caller, job_id)
    picture = find_picture(proposals, image)
    wanted = validate_decision(Decide, document)
    boxes = resolve_boxes(wanted.boxes, proposals)
    with service.begin(caller) as session:
        about = {"image": image, "reviewer": wanted.reviewer, "at": database_now(session)}
        decision = validate_decision(ImageDecision, {**about, "decision": wanted.decision, "boxes": boxes})
        reviews.decide(session, job_id, [decision], matches=partial(http.matches, if_match))
    return ReviewImage.of(job_id, picture, decision)


def withdraw(service: AppState, caller: Principal, job_id: str, image: str, *, if_match: str | None) -> ReviewImage:
    """Open one image again.

    Raises:
        DecisionConflict: the image is not what *if_match* names any more.

    """
    picture = find_picture(proposals_of(service, caller, job_id), image)
    with service.begin(caller) as session:
        reviews.withdraw(session, job_id, image, matches=partial(http.matches, if_match))
    return ReviewImage.of(job_id, picture, None)


def complete(service: AppState, caller: Principal, job_id: str, document: object) -> None:
    """Complete the review and queue the job.

    Raises:
        BadDecision: *document* does not say what becomes of the rest.
        ReviewOpen: images are open, and it says nothing.

    """
    proposals = proposals_of(service, caller, job_id)
    wanted = validate_decision(Complete, document)
    with service.begin(caller) as session:
        reviews.complete(
            session, job_id, proposals, rest=wanted.rest, reviewer=wanted.reviewer, now=database_now(session),
            actor="client",
        )  # fmt: skip
    service.notifier.notify(job_id)
