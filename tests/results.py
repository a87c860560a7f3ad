"""Results as they are read, whole but small."""

from __future__ import annotations

from typing import Any

from retort.spec.result import JobResult, parse_result
from stored_results import stored


def result(
    teacher: float | None = 0.6, student: float = 0.45, control: float | None = 0.4, **changes: Any
) -> JobResult:
    """A distillation's result."""
    found = parse_result(stored(teacher, student, control, **changes))
    assert isinstance(found, JobResult)
    return found


def trained_for(epochs: int) -> JobResult:
    """One whose student was trained for so many epochs."""
    return result(training={"epochs": epochs, "planned_epochs": epochs, "batch": 8})


RESULT = result()
