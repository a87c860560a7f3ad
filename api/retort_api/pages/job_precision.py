"""Show the precision-recall curves and confusion matrices of a job's networks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Response
from retort.access import Scope
from retort.constants import Role
from retort.db import jobs
from retort.errors import UserError
from retort.spec.curves import CURVES, Curves, NetworkCurves

from retort_api.deps import Caller, JobId, Serving
from retort_api.errors import OK
from retort_api.pages.job_curves import cell
from retort_api.pages.job_documents import document
from retort_api.pages.page_router import PageRouter

router = PageRouter()

ClassName = Annotated[str, Query(alias="class", max_length=500)]
NetworkName = Annotated[str, Query(max_length=500)]
MOST_SHOWN = 20
"""Classes of the matrix on the page; the file has all that are kept."""
SHADES = 5
_LEFT, _TOP, _WIDTH, _HEIGHT = 50.0, 16.0, 560.0, 300.0
_SERIES = 6
_ORDER = tuple(role.value for role in (Role.STUDENT, Role.CONTROL, Role.TEACHER))
_SHOWN = 10
"""Every tenth of the recalls stands in the table."""


@dataclass(frozen=True, slots=True)
class PrecisionLine:
    """The curve of one network."""

    name: str
    role: str
    """By which it is coloured and dashed."""
    path: str
    """In units of the drawing."""
    ap50: float | None
    number: int | None
    """Labels of the class; None for the mean of all."""


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """How often a label was seen as a class."""

    number: int
    shade: int
    """0 for nothing, up to ``SHADES`` for all of its row."""
    right: bool


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One class, and what was seen in the place of its labels."""

    name: str
    cells: tuple[MatrixCell, ...]
    number: int | None
    """Its labels; None where there is no label."""


@dataclass(frozen=True, slots=True)
class ShownMatrix:
    """The confusion matrix of one network."""

    network: str
    columns: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    left_out: int
    """Classes of the data without a row of their own."""


@dataclass(frozen=True, slots=True)
class PrecisionView:
    """Curves and a matrix, as they are chosen."""

    curves: Curves
    label: str
    """The class whose curves are shown; empty for the mean of all."""
    lines: tuple[PrecisionLine, ...]
    rows: tuple[tuple[float, tuple[float | None, ...]], ...]
    """Precision of each line, by recall."""
    matrix: ShownMatrix
    letterboxes: tuple[str, ...]

    def address(self, **changes: str) -> str:
        """Return the query of the page with *changes*."""
        asked = {"class": self.label, "network": self.matrix.network, **changes}
        return "?" + urlencode({name: value for name, value in asked.items() if value})


@router.page("/jobs/{job_id}/evaluation/precision.csv", scope=Scope.JOBS_READ)
def send_precision(service: Serving, caller: Caller, job_id: JobId) -> Response:
    """Send the precision of each class and network, by recall."""
    found = _insisted(document(service, caller, job_id, CURVES, Curves), job_id)
    rows = [
        (network, name, f"{at / (len(precision) - 1):.2f}", value)
        for network, one in _ordered(found)
        for name, precision in [("all classes", one.mean), *((curve.name, curve.precision) for curve in one.classes)]
        for at, value in enumerate(precision)
    ]
    return _file(service, caller, job_id, "precision", ("network", "class", "recall", "precision"), rows)


@router.page("/jobs/{job_id}/evaluation/confusion.csv", scope=Scope.JOBS_READ)
def send_confusion(service: Serving, caller: Caller, job_id: JobId) -> Response:
    """Send how often each label was seen as each class."""
    found = _insisted(document(service, caller, job_id, CURVES, Curves), job_id)
    names = (*found.classes, "all others")
    rows = [
        (network, label, seen, number)
        for network, one in _ordered(found)
        for label, counts in zip((*names, "no label"), one.confusion.counts, strict=True)
        for seen, number in zip((*names, "not seen"), counts, strict=True)
    ]
    return _file(service, caller, job_id, "confusion", ("network", "label", "seen as", "number"), rows)


def precision_view(found: Curves | None, label: str, network: str) -> PrecisionView | None:
    """Return the curves of a class and the matrix of a network.

    None where nothing is kept.

    Raises:
        UserError: there is no such class or network.

    """
    if found is None or not found.networks:
        return None
    ordered = _ordered(found)
    if label and label not in found.classes:
        raise UserError(f"no curve of class {label} is kept", code="not_found", hint="choose one on the page")
    chosen = network or ordered[0][0]
    if chosen not in found.networks:
        raise UserError(f"no network {chosen} was evaluated", code="not_found", hint="choose one on the page")
    lines = tuple(_line(name, one, label, place) for place, (name, one) in enumerate(ordered))
    curves = [_precision(one, label) for _, one in ordered]
    rows = tuple(
        (at / 100, tuple(None if curve is None else curve[at] for curve in curves)) for at in range(0, 101, _SHOWN)
    )
    return PrecisionView(
        found, label, lines, rows, _matrix(found, chosen), tuple(sorted({one.letterbox for _, one in ordered}))
    )


def _ordered(found: Curves) -> list[tuple[str, NetworkCurves]]:
    """Return the networks in the order of the report; those without a role as they were evaluated."""
    places = {name: place for place, name in enumerate(_ORDER)}
    return sorted(found.networks.items(), key=lambda one: places.get(one[0], len(places)))


def _precision(one: NetworkCurves, label: str) -> tuple[float, ...] | None:
    if not label:
        return one.mean
    return next((curve.precision for curve in one.classes if curve.name == label), None)


def _line(name: str, one: NetworkCurves, label: str, place: int) -> PrecisionLine:
    role = name if name in _ORDER else f"series-{place % _SERIES + 1}"
    precision = _precision(one, label)
    if not label:
        return PrecisionLine(name, role, _path(one.mean), one.map50, None)
    curve = next((curve for curve in one.classes if curve.name == label), None)
    if curve is None or precision is None:
        return PrecisionLine(name, role, "", None, 0)
    return PrecisionLine(name, role, _path(precision), curve.ap50, curve.number)


def _path(precision: Sequence[float]) -> str:
    last = max(1, len(precision) - 1)
    points = (f"{_LEFT + _WIDTH * at / last:.1f} {_TOP + _HEIGHT * (1 - y):.1f}" for at, y in enumerate(precision))
    return "M" + "L".join(points)


def _matrix(found: Curves, network: str) -> ShownMatrix:
    """Return the matrix with the classes that are confused most; the others share a row and a column."""
    counts = found.networks[network].confusion.counts
    shown = _confused(counts, len(found.classes))
    others = [at for at in range(len(found.classes) + 1) if at not in shown]
    groups = [*([at] for at in shown), others, [len(found.classes) + 1]]
    folded = [[sum(counts[row][column] for row in rows for column in columns) for columns in groups] for rows in groups]
    left_out = found.num_classes - len(shown)
    keep = [place for place in range(len(groups)) if left_out or place != len(shown)]
    names = [*(found.classes[at] for at in shown), f"{left_out} other classes", ""]
    rows = tuple(
        _row(
            names[place] or "no label", [folded[place][column] for column in keep], keep.index(place), not names[place]
        )
        for place in keep
    )
    return ShownMatrix(network, tuple(names[place] or "not seen" for place in keep), rows, left_out)


def _confused(counts: Sequence[Sequence[int]], number: int) -> list[int]:
    """Return the classes to show, in the data's order."""
    wrong = [sum(counts[at]) + sum(row[at] for row in counts) - 2 * counts[at][at] for at in range(number)]
    return sorted(sorted(range(number), key=lambda at: (-wrong[at], at))[:MOST_SHOWN])


def _row(name: str, counts: Sequence[int], own: int, background: bool) -> MatrixRow:
    total = sum(counts)
    cells = tuple(
        MatrixCell(count, math.ceil(SHADES * count / total) if count else 0, place == own and not background)
        for place, count in enumerate(counts)
    )
    return MatrixRow(name, cells, None if background else total)


def _insisted(found: Curves | None, job_id: str) -> Curves:
    if found is None:
        hint = "they are kept when networks are measured, by jobs of this version of Retort"
        raise UserError(f"job {job_id} has kept no curves", code="not_found", hint=hint)
    return found


def _file(  # noqa: PLR0917 - who asks, of what, and its content
    service: Serving, caller: Caller, job_id: str, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> Response:
    with service.read(caller) as session:
        title = jobs.get(session, job_id).name
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(value) if isinstance(value, str) else value for value in row] for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{title}-{name}.csv"', "Cache-Control": "no-store"}
    return Response(out.getvalue(), OK, headers, "text/csv; charset=utf-8")
