"""Show what a job's networks find wrongly or miss, the worst images first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from retort.access import Scope
from retort.constants import Role
from retort.db import jobs
from retort.spec.mistakes import MISTAKES, MarkedBox, MistakenImage, Mistakes, OutcomeCounts
from retort.spec.result import JobResult
from retort.states import TERMINAL

from retort_api.deps import Caller, JobId, Serving
from retort_api.pages.job_documents import document
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render

router = PageRouter()

_PAGE = 12
"""Pictures of a page, which holds them itself."""
Kind = Literal["all", "wrong", "missed"]
Size = Literal["all", "small", "medium", "large"]
Number = Annotated[int, Query(ge=1, le=1000)]


@dataclass(frozen=True, slots=True)
class MistakeMark:
    """A box to draw, in pixels of the picture."""

    box: MarkedBox
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class MistakeCard:
    """An image with the mistakes of one network on it."""

    shown: MistakenImage
    marks: Sequence[MistakeMark]
    words: str


@dataclass(frozen=True, slots=True)
class MistakeFilter:
    """Which mistakes are wanted."""

    kind: Kind
    label: str
    """Of a class; empty for all."""
    size: Size

    def wants(self, box: MarkedBox) -> bool:
        """Return True where *box* is such a mistake."""
        return (
            box.outcome != "found"
            and self.kind in {"all", box.outcome}
            and self.label in {"", box.name}
            and self.size in {"all", box.size}
        )

    def address(self, **changes: str | int) -> str:
        """Return the query of the page with *changes*."""
        asked = {"kind": self.kind, "class": self.label, "size": self.size, **changes}
        return "?" + urlencode({name: value for name, value in asked.items() if value not in {"", "all"}})


@router.page("/jobs/{job_id}/mistakes", scope=Scope.JOBS_READ)
def show_mistakes(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    kind: Kind = "all",
    label: Annotated[str, Query(alias="class", max_length=200)] = "",
    size: Size = "all",
    page: Number = 1,
) -> Response:
    """Show the mistakes by class and size, and the worst images."""
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        name, state, result = job.name, job.state, job.found
    found, wanted = document(service, caller, job_id, MISTAKES, Mistakes), MistakeFilter(kind, label, size)
    about: dict[str, Any] = {
        "title": f"Mistakes of {name}",
        "current": "jobs",
        "name": name,
        "job_id": job_id,
        "state": state,
    }
    if found is None:
        measured = result if isinstance(result, JobResult) else None
        return render(
            request, "mistakes.html", **about, mistakes=None, result=measured, ended=state in TERMINAL
        )  # fmt: skip
    images = _worst(found, wanted)
    shown = images[(page - 1) * _PAGE : page * _PAGE]
    return render(
        request, "mistakes.html", **about, mistakes=found, wanted=wanted, page=page, number=len(images),
        cards=[_card(one, wanted) for one in shown], more=page * _PAGE < len(images), roles=_roles(found),
        classes=_classes(found), looked_at=_whose(found),
    )  # fmt: skip


def _worst(found: Mistakes, wanted: MistakeFilter) -> list[MistakenImage]:
    """Return the images with such mistakes, those with the most of them first."""
    costs = [
        (sum(1.0 if box.score is None else box.score for box in one.boxes if wanted.wants(box)), one)
        for one in found.images
    ]
    return [one for cost, one in sorted(costs, key=lambda pair: -pair[0]) if cost]


def _card(one: MistakenImage, wanted: MistakeFilter) -> MistakeCard:
    marks = [
        MistakeMark(
            box, round(box.x1 * one.width, 1), round(box.y1 * one.height, 1),
            round((box.x2 - box.x1) * one.width, 1), round((box.y2 - box.y1) * one.height, 1),
        )
        for box in one.boxes
        if box.outcome == "found" or wanted.wants(box)
    ]  # fmt: skip
    told = [
        f"{box.outcome} {box.name}" + ("" if box.score is None else f" {box.score:.2f}")
        for box in one.boxes
        if wanted.wants(box)
    ]
    return MistakeCard(one, marks, ", ".join(told[:8]) + (f" and {len(told) - 8} more" if len(told) > 8 else ""))


def _roles(found: Mistakes) -> list[str]:
    """Return the networks in the order of the report; those without a role as they were evaluated."""
    order = [role.value for role in (Role.STUDENT, Role.CONTROL, Role.TEACHER)]
    return [*(role for role in order if role in found.networks), *(one for one in found.networks if one not in order)]


def _whose(found: Mistakes) -> str:
    """Return in words whose mistakes the images show."""
    return f"the {found.network}" if found.network == Role.STUDENT else found.network


def _classes(found: Mistakes) -> list[tuple[str, OutcomeCounts]]:
    """Return the counts by class of the network that is looked at, the worst class first."""
    counted = found.networks[found.network].per_class
    return sorted(counted.items(), key=lambda one: (-(one[1].wrong + one[1].missed), one[0]))
