"""Where a spec names weights."""

from __future__ import annotations

from retort.spec.advice import AdviceSpec
from retort.spec.job import JobSpec


def weights(spec: JobSpec | AdviceSpec) -> dict[str, str]:
    """Return the weights files and registered models that *spec* names, by their dotted paths in the document."""
    named: dict[str, str | None] = {"student.weights": spec.student.weights}
    if isinstance(spec, AdviceSpec):
        named |= {f"candidates.{index}": one for index, one in enumerate(spec.candidates)}
    else:
        train = spec.teacher.train
        named |= {"teacher.weights": spec.teacher.weights, "teacher.train.weights": train.weights if train else None}
        named |= {f"teacher.ensemble.{index}.weights": one.weights for index, one in enumerate(spec.teacher.ensemble)}
    return {path: name for path, name in named.items() if name is not None}
