"""Compare jobs: their figures, the fields in which their specs differ, and classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retort.constants import MAP, MAP50
from retort.spec.figures import NetworkFigures
from retort.spec.result import JobResult, readable_result
from retort.spec.verdict import Verdict

MOST = 6
"""Jobs that can be read beside each other."""


@dataclass(frozen=True, slots=True)
class ComparedJob:
    """Figures of a job, so far or in the end; unknown ones are None."""

    id: str
    name: str
    state: str
    is_final: bool
    """Whether the figures are of a result, not of the best epoch so far."""
    map50: float | None
    map: float | None
    teacher_map: float | None = None
    control_map: float | None = None
    verdict: Verdict | None = None
    num_parameters: int | None = None
    latency_ms: float | None = None
    size_bytes: int | None = None
    duration_s: float | None = None
    images: str | None = None
    """On which it was measured: data and split."""


@dataclass(frozen=True, slots=True)
class DifferingField:
    """A field of the spec that is not the same in all jobs."""

    path: str
    values: tuple[Any, ...]
    """In the order of the jobs; ``MISSING`` where a spec has no such field."""


@dataclass(frozen=True, slots=True)
class ComparedClass:
    """How well each job's student finds one class."""

    name: str
    values: tuple[float | None, ...]
    """AP over IoU 0.50 to 0.95, in the order of the jobs."""

    @property
    def largest_difference(self) -> float:
        """The largest difference to the first job; 0 where nothing can be compared."""
        first, *others = self.values
        return max((abs(one - first) for one in others if one is not None and first is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class JobComparison:
    """Jobs beside each other."""

    jobs: tuple[ComparedJob, ...]
    fields: tuple[DifferingField, ...]
    classes: tuple[ComparedClass, ...]
    """The largest differences first."""

    @property
    def same_images(self) -> bool:
        """Whether all that have a result were measured on the same images."""
        return len({job.images for job in self.jobs if job.images is not None}) <= 1


MISSING = "\N{EM DASH}"
"""Stands for the value of a field that a spec does not have."""


def compare(jobs: Sequence[Mapping[str, Any]]) -> JobComparison:
    """Compare jobs as the service shows them."""
    results = [found if isinstance(found := readable_result(job.get("result")), JobResult) else None for job in jobs]
    rows = tuple(_row(job, result) for job, result in zip(jobs, results, strict=True))
    return JobComparison(rows, tuple(differing([job["spec"] for job in jobs])), _classes(results))


def _row(job: Mapping[str, Any], result: JobResult | None) -> ComparedJob:
    named = {"id": job["id"], "name": job["name"], "state": job["state"]}
    if result is None:
        best = job.get("best") or {}
        return ComparedJob(**named, is_final=False, map50=best.get(MAP50), map=best.get(MAP))
    roles, student = result.roles, result.roles.student
    return ComparedJob(
        **named, is_final=True, map50=student.map50, map=student.map, teacher_map=_map(roles.teacher),
        control_map=_map(roles.control), verdict=result.verdict, num_parameters=student.num_parameters,
        latency_ms=None if student.latency_ms is None else student.latency_ms.p50, size_bytes=student.size_bytes,
        duration_s=result.duration_s, images=f"{result.dataset.digest} {student.split or 'val'}",
    )  # fmt: skip


def _map(figures: NetworkFigures | None) -> float | None:
    return None if figures is None else figures.map


def _classes(results: Sequence[JobResult | None]) -> tuple[ComparedClass, ...]:
    scores = [{} if result is None else result.roles.student.per_class for result in results]
    names = dict.fromkeys(name for one in scores for name in one)
    found = [ComparedClass(name, tuple(one[name].ap if name in one else None for one in scores)) for name in names]
    return tuple(sorted(found, key=lambda one: (-one.largest_difference, one.name)))


def differing(specs: Sequence[Mapping[str, Any]]) -> Iterator[DifferingField]:
    """Yield the fields that differ between *specs*, except their names."""
    flat = [dict(_flat(spec)) for spec in specs]
    for path in dict.fromkeys(path for one in flat for path in one):
        values = tuple(one.get(path, MISSING) for one in flat)
        if path != "name" and len({json.dumps(value, sort_keys=True) for value in values}) > 1:
            yield DifferingField(path, values)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value below *value* with its path, as ``--set`` writes it."""
    below = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    if path and not (below and value):
        yield path, value
    for key, one in below:
        yield from _flat(one, f"{path}.{key}" if path else str(key))
