"""Ask which network should teach, from the form of a new job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from retort import dataset_ref
from retort.constants import PUBLISHED_WEIGHTS
from retort.errors import FieldProblem, SpecError
from retort.spec.assignment import value_at

from retort_api.pages.job_choices import REGISTERED, JobChoices

_MOST_REGISTERED = 8
_PUBLISHED = ("yolo11s", "yolo11m", "yolo11l")
"""Architectures whose published weights are measured, too."""
_TAKEN = ("path", "dataset", "max_missing_labels")
"""What advice needs to know of the data."""


def advice_request(document: Mapping[str, Any], offered: JobChoices) -> dict[str, Any]:
    """Return the request for advice about the data and the student of a spec.

    Raises:
        SpecError: no data is chosen yet.

    """
    data = document.get("data")
    data = {name: data[name] for name in _TAKEN if name in data} if isinstance(data, dict) else {}
    if not any(data.get(name) for name in ("path", "dataset")):
        raise SpecError([FieldProblem("data", "is needed to measure teachers on", "choose a dataset")])
    training = {name: value_at(document, f"training.{name}") for name in ("imgsz", "batch")}
    student, chosen = document.get("student"), value_at(document, "teacher.weights")
    adapter = value_at(document, "teacher.adapter")
    return {
        "task": "advise", "name": _name(document), "data": data,
        **({"student": student} if student else {}),
        "candidates": list(dict.fromkeys(_candidates(document, offered))),
        **({"adapters": {chosen: adapter}} if adapter and chosen else {}),
        **{name: value for name, value in training.items() if isinstance(value, int)},
    }  # fmt: skip


def _candidates(document: Mapping[str, Any], offered: JobChoices) -> Iterator[str]:
    """Yield the chosen teacher, registered models, and published weights; none is the student itself."""
    student = value_at(document, "student.weights")
    registered = next((group.choices for group in offered.teachers if group.title == REGISTERED), ())
    chosen = value_at(document, "teacher.weights")
    named = [chosen] if isinstance(chosen, str) else []
    named += [one.value for one in registered[:_MOST_REGISTERED]] + [PUBLISHED_WEIGHTS[name] for name in _PUBLISHED]
    yield from (one for one in named if one != student)


def _name(document: Mapping[str, Any]) -> str:
    """Return a name that says what was asked, and is one whatever the document has."""
    given = value_at(document, "data.dataset")
    reference = dataset_ref.parse(given) if isinstance(given, str) else None
    return f"advice-{reference.name}"[:63] if reference is not None else "advice"
