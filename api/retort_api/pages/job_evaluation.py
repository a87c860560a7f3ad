"""Show what a job measured: per class, by size, latency against accuracy, exports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import HTMLResponse
from retort.access import Scope
from retort.constants import Role
from retort.db import jobs
from retort.report.forms import described
from retort.spec.arms import ABOUT
from retort.spec.curves import CURVES, Curves
from retort.spec.exported import AnyExport, MeasuredExport
from retort.spec.figures import MeasuredFigures
from retort.spec.pilot import ABOUT_PILOT, RULE
from retort.spec.result import JobResult

from retort_api.deps import Caller, JobId, Serving
from retort_api.pages.job_documents import document
from retort_api.pages.job_head import show
from retort_api.pages.job_precision import ClassName, NetworkName, precision_view
from retort_api.pages.latency_plane import TimedNetwork, latency_plane, student_bounds
from retort_api.pages.page_router import PageRouter

router = PageRouter()

_SERIES = 6
_SIZES = ("small", "medium", "large")


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class, as each network finds it."""

    name: str
    scores: tuple[float | None, ...]
    """AP50-95 by role, in the order of the columns."""
    lead: float | None
    """Student less control; less the teacher where there is no control."""


@router.page("/jobs/{job_id}/evaluation", scope=Scope.JOBS_READ)
def show_evaluation(  # noqa: PLR0917 - who asks, for what
    request: Request, service: Serving, caller: Caller, job_id: JobId, label: ClassName = "", network: NetworkName = ""
) -> HTMLResponse:
    """Show the figures of the job's result."""
    precision = precision_view(document(service, caller, job_id, CURVES, Curves), label, network)
    with service.read(caller) as session:
        found = jobs.get(session, job_id).found
    if not isinstance(found, JobResult):
        return show(
            request, service, caller, job_id, "evaluation", "job_measured.html", other=found, precision=precision
        )
    roles = found.roles.known()
    return show(
        request, service, caller, job_id, "evaluation", "job_evaluation.html", result=found, roles=roles,
        rows=found.roles.rows(), classes=classes(found), plane=latency_plane([*timed(found)]), sizes=_SIZES,
        about=ABOUT, about_pilot=ABOUT_PILOT, rule=RULE,
        forms=[(one, one if isinstance(one, MeasuredExport) else None) for one in found.exports], described=described,
        letterboxes=letterboxes(found), precision=precision,
    )  # fmt: skip


def classes(result: JobResult) -> tuple[ClassRow, ...]:
    """Return the classes, ordered by how much the student differs in them."""
    roles = result.roles.known()
    other = result.roles.control or result.roles.teacher
    made = []
    for name, own in result.roles.student.per_class.items():
        beside = None if other is None else other.per_class.get(name)
        scores = tuple(None if name not in one.per_class else one.per_class[name].ap for _, one in roles)
        made.append(ClassRow(name, scores, None if beside is None else own.ap - beside.ap))
    return tuple(sorted(made, key=lambda row: (-abs(row.lead or 0.0), row.name)))


def letterboxes(result: JobResult) -> tuple[str, ...]:
    """Say into what the images were fitted, for each network and form once."""
    words = {
        "rectangle": "rectangles, as plain Ultralytics does for a .pt", "square": "squares", "shape": "its own shape",
    }  # fmt: skip
    named = [(str(role), one.letterbox) for role, one in result.roles.known()]
    named += [(one.path, one.letterbox) for one in result.exports if isinstance(one, MeasuredExport)]
    found: dict[str, list[str]] = {}
    for name, letterbox in named:
        if letterbox is not None:
            found.setdefault(words[letterbox], []).append(name)
    return tuple(f"{', '.join(names)}: images fitted into {how}" for how, names in found.items())


def timed(result: JobResult) -> Iterator[TimedNetwork]:
    """Yield the networks and files that have a latency."""
    named: Iterable[tuple[str, str, MeasuredFigures]] = [
        *((str(role), str(role), one) for role, one in result.roles.known()),
        *((one.path, f"series-{place % _SERIES + 1}", one) for place, one in enumerate(_forms(result.exports))),
    ]
    bounds = student_bounds(result)
    for name, style, one in named:
        if one.map is not None and one.latency_ms is not None and one.latency_ms.p50 > 0:
            low, high = bounds if bounds is not None and name == Role.STUDENT else (None, None)
            yield TimedNetwork(name, style, one.map, one.latency_ms.p50, one.latency_ms.p90, low, high)


def _forms(exports: Sequence[AnyExport]) -> list[MeasuredExport]:
    return [one for one in exports if isinstance(one, MeasuredExport)]
