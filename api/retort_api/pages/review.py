"""Show the review of a job's pseudo-labels, and take decisions from its forms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import Form, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from retort.access import Principal, Scope
from retort.db import jobs
from retort.db.reviews import DecisionConflict
from retort.review.models import IMAGE, REVIEWER, SOMEBODY, Box, Scored
from retort.review.sheet import COLOURS, STATES
from retort.states import JobState

from retort_api import http, reviewing
from retort_api.deps import Caller, JobId, Serving
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render, see_other
from retort_api.schemas.reviews import ReviewImage

router = PageRouter()

_PAGE = 24
"""Pictures of a page of the list."""
Shown = Literal["all", "open", "decided"]
_DECIDED: dict[str, bool | None] = {"all": None, "open": False, "decided": True}


@dataclass(frozen=True, slots=True)
class Mark:
    """A box to draw, in pixels of the picture.

    Its colour is a number of the palette's.
    """

    x: float
    y: float
    width: float
    height: float
    colour: int
    text: str


@dataclass(frozen=True, slots=True)
class Card:
    """A picture of the list."""

    shown: ReviewImage
    state: str
    marks: Sequence[Mark]
    doubtful: Sequence[Mark]
    words: str
    """What is on it."""


class DecideForm(BaseModel):
    """A decision about one picture.

    It says what, which picture, and the version that was seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decide: Annotated[str, Field(pattern=r"^(accept|reject|withdraw) \S{1,120} [0-9a-z]{1,64}$")]
    reviewer: Annotated[str, Field(max_length=100)] = ""
    show: Shown = "all"
    cursor: Annotated[str, Field(pattern=rf"{IMAGE}|^$")] = ""


class CompleteForm(BaseModel):
    """The end of the review."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rest: Literal["accept", "reject", ""] = ""
    reviewer: Annotated[str, Field(max_length=100)] = ""


@router.page("/jobs/{job_id}/review", scope=Scope.JOBS_READ)
def show_review(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    show: Annotated[Shown, Query(description="Which pictures the list has.")] = "all",
    cursor: Annotated[str | None, Query(pattern=IMAGE)] = None,
    reviewer: Annotated[str | None, Query(pattern=REVIEWER)] = None,
) -> Response:
    """Show the pictures with the teacher's boxes, and how far the review is."""
    review = reviewing.summary(service, caller, job_id)
    page = reviewing.images(service, caller, job_id, decided=_DECIDED[show], limit=_PAGE, cursor=cursor)
    with service.read(caller) as session:
        name = jobs.get(session, job_id).name
    waits = review.state is JobState.AWAITING_REVIEW
    return render(
        request, "review.html", title=f"Review of {name}", current="jobs", name=name, review=review, waits=waits,
        editable=waits and Scope.JOBS_WRITE in caller.scopes, cards=[_card(one, review.classes) for one in page.data],
        show=show, cursor=cursor or "", following=page.next_cursor, reviewer=reviewer or _name_of(caller),
        address=f"/jobs/{job_id}/review",
        classes=[(one, index % len(COLOURS)) for index, one in enumerate(review.classes)],
    )  # fmt: skip


@router.form("/jobs/{job_id}/review/decide", scope=Scope.JOBS_WRITE)
def decide_on_page(
    request: Request, service: Serving, caller: Caller, job_id: JobId, asked: Annotated[DecideForm, Form()]
) -> Response:
    """Accept, reject or reopen one picture.

    Nothing is changed where somebody else has decided since the page was made.
    """
    what, image, version = asked.decide.split(" ")
    seen, reviewer = http.strong(version), _reviewer(caller, asked.reviewer)
    try:
        if what == "withdraw":
            reviewing.withdraw(service, caller, job_id, image, if_match=seen)
        else:
            reviewing.decide(
                service, caller, job_id, image, {"decision": what, "reviewer": reviewer}, if_match=seen
            )  # fmt: skip
        said = f"{image}: {'open' if what == 'withdraw' else STATES[what]}."
    except DecisionConflict as error:
        said = f"Nothing was changed: {error.message}. Look at it again."
    told = {"show": asked.show, "reviewer": reviewer, **({"cursor": asked.cursor} if asked.cursor else {})}
    return see_other(request, f"/jobs/{job_id}/review?{urlencode(told)}#image-{image}", said)


@router.form("/jobs/{job_id}/review/complete", scope=Scope.JOBS_WRITE)
def complete_on_page(
    request: Request, service: Serving, caller: Caller, job_id: JobId, asked: Annotated[CompleteForm, Form()]
) -> Response:
    """Complete the review: the job is queued, and decisions are final."""
    wanted = {"rest": asked.rest or None, "reviewer": _reviewer(caller, asked.reviewer)}
    reviewing.complete(service, caller, job_id, wanted)
    return see_other(request, f"/jobs/{job_id}", "The review is complete: the job is queued again.")


def _name_of(caller: Principal) -> str:
    return caller.owner if re.fullmatch(REVIEWER, caller.owner) else SOMEBODY


def _reviewer(caller: Principal, given: str) -> str:
    """Return who has looked: as they say, or whose key it is."""
    return given.strip() or _name_of(caller)


def _card(shown: ReviewImage, classes: Sequence[str]) -> Card:
    decision = shown.decision
    edited = decision is not None and decision.boxes is not None
    boxes: Sequence[Box] = decision.boxes if decision is not None and decision.boxes is not None else shown.boxes
    counted = Counter(one.name for one in boxes)
    return Card(
        shown=shown,
        state=STATES[None if decision is None else decision.decision],
        marks=[_mark(one, shown, classes) for one in boxes],
        doubtful=[] if edited else [_mark(one, shown, classes) for one in shown.doubtful],
        words=", ".join(f"{number} {name}" for name, number in counted.items()) or "no boxes",
    )


def _mark(one: Box, shown: ReviewImage, classes: Sequence[str]) -> Mark:
    width, height = shown.width, shown.height
    return Mark(
        x=round(one.x1 * width, 1), y=round(one.y1 * height, 1),
        width=round((one.x2 - one.x1) * width, 1), height=round((one.y2 - one.y1) * height, 1),
        colour=classes.index(one.name) % len(COLOURS) if one.name in classes else 0,
        text=f"{one.name} {one.score:.2f}" if isinstance(one, Scored) else one.name,
    )  # fmt: skip
