"""Estimate a job's time, memory and cost from recorded jobs like it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from retort.db.models import JobRow
from retort.spec import AnySpec, JobSpec
from retort.spec.result import JobResult, TrainingFigures, readable_result
from retort.states import JobState

Sureness = Literal["alike", "scaled", "one"]
_MOST_JOBS = 100
"""The latest ones; older ones ran on older machines."""


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """Seconds that the job would take on one kind of device."""

    device: str
    seconds: float
    low: float
    high: float
    sure: Sureness
    num_jobs: int


@dataclass(frozen=True, slots=True)
class StepBytes:
    """Bytes of each GPU that a training step would take."""

    step_bytes: int
    num_jobs: int


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """Estimate of a job from recorded jobs; empty where there are none."""

    times: tuple[DeviceTime, ...] = ()
    memory: StepBytes | None = None


def estimate(session: Session, spec: AnySpec) -> JobEstimate:
    """Return the estimate for *spec* from succeeded jobs with the same work."""
    if not isinstance(spec, JobSpec):
        return JobEstimate()
    by_device: dict[str, list[tuple[JobResult, TrainingFigures]]] = defaultdict(list)
    for result, training in _recorded(session, spec):
        by_device[result.device].append((result, training))
    times = tuple(_time(device, found, spec.training.epochs) for device, found in sorted(by_device.items()))
    steps = [one.memory.step_bytes for found in by_device.values() for _, one in found if one.memory is not None]
    return JobEstimate(times, StepBytes(max(steps), len(steps)) if steps else None)


def _recorded(session: Session, spec: JobSpec) -> Iterator[tuple[JobResult, TrainingFigures]]:
    """Yield the results of succeeded jobs with the work of *spec*, newest first."""
    said, wanted = JobRow.spec, spec.model_dump(mode="json")
    query = select(JobRow.spec, JobRow.result).where(
        JobRow.state == JobState.SUCCEEDED,
        JobRow.result.is_not(None),
        said["data"]["path" if spec.data.path else "dataset"].as_string() == (spec.data.path or spec.data.dataset),
    )
    for row in session.execute(query.order_by(JobRow.id.desc()).limit(_MOST_JOBS)):
        result = readable_result(row.result) if _work(row.spec) == _work(wanted) else None
        if isinstance(result, JobResult) and result.training is not None:
            yield result, result.training


def _work(spec: Mapping[str, Any]) -> list[Any]:
    """Return the parts of a spec on which its time depends, without the number of epochs."""
    training, resources = spec.get("training") or {}, spec.get("resources") or {}
    told = [training.get(name) for name in ("imgsz", "batch", "seeds", "fraction")]
    networks = [spec.get(name) for name in ("task", "teacher", "student", "control", "arms", "pseudo_labels")]
    return [*told, *networks, resources.get("gpus")]


def _time(device: str, found: Sequence[tuple[JobResult, TrainingFigures]], epochs: int) -> DeviceTime:
    seconds = sorted(result.duration_s * epochs / max(1, training.epochs) for result, training in found)
    same = all(training.epochs == epochs for _, training in found)
    sure: Sureness = "one" if len(found) == 1 else "alike" if same else "scaled"
    return DeviceTime(device, statistics.median(seconds), seconds[0], seconds[-1], sure, len(found))
