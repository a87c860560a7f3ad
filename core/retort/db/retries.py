"""Whether a job is tried again after a failure, when, and with what learned from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retort import failures
from retort.events import Failure

_SMALLEST_BATCH = 2


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after a pause, under *adjustments* (as in ``retort.intake.inputs``; None for none)."""

    pause_s: float
    adjustments: dict[str, Any] | None


def decide(failure: Failure, job: Any, *, earlier: int) -> Retry | None:
    """Return how to go on after *failure*; None when the job has to fail.

    Args:
        failure: of the attempt that has just ended.
        job: has ``retries_left``, ``spec`` and ``adjustments``.
        earlier: how many of the job's earlier attempts failed in the same way.

    """
    if job.retries_left <= 0:
        return None
    learned = job.adjustments
    if failure.code == "out_of_memory":
        batch = _half(job.spec, learned or {})
        return None if batch is None else Retry(0.0, {**(learned or {}), "batch": batch})
    kind = failures.of(failure.code)
    if not failure.retryable or earlier >= kind.retries:
        return None
    if failure.code == "shared_memory":
        learned = {**(learned or {}), "loader_workers": 0}
    return Retry(kind.pause_s(earlier), learned)


def _half(spec: dict[str, Any], adjustments: dict[str, Any]) -> int | None:
    """Return half of the batch, which the GPUs can share, where the spec allows it and it was not halved before."""
    resources = spec["resources"]
    if not resources.get("halve_batch") or adjustments.get("batch") is not None:
        return None
    gpus = int(resources["gpus"])
    batch = int(spec["training"]["batch"]) // 2 // gpus * gpus
    return batch if batch >= _SMALLEST_BATCH else None
