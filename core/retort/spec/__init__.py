"""The job spec: one frozen document that says everything a run does."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import ValidationError

from retort.documents import parse_document
from retort.errors import FieldProblem, SpecError
from retort.spec.advise import AdviceSpec
from retort.spec.distillation import RECIPES, DistillationSpec, Schedule
from retort.spec.document import merge
from retort.spec.evaluate import EvaluateSpec
from retort.spec.job import (
    CopyKind,
    DataSpec,
    FurtherTeacher,
    JobSpec,
    MlflowSpec,
    PseudoLabelsSpec,
    ResourcesSpec,
    TeacherSpec,
    TrackingSpec,
    UnlabelledSpec,
    ViewName,
    WandbSpec,
)
from retort.spec.networks import DEFINITIONS, NetworkSpec, StudentSpec, TeacherTraining
from retort.spec.sweep import MOST_TRIALS, Domain, Objective, Search, SweepSpec, sweep_schema
from retort.spec.training import AugmentationFields, TrainingSpec
from retort.spec.validation_errors import explain, shown

__all__ = [
    "MOST_TRIALS",
    "RECIPES",
    "TASKS",
    "AdviceSpec",
    "AnySpec",
    "AugmentationFields",
    "CopyKind",
    "DataSpec",
    "DistillationSpec",
    "Domain",
    "EvaluateSpec",
    "FurtherTeacher",
    "JobSpec",
    "MlflowSpec",
    "NetworkSpec",
    "Objective",
    "PseudoLabelsSpec",
    "ResourcesSpec",
    "Schedule",
    "Search",
    "StudentSpec",
    "SweepSpec",
    "TeacherSpec",
    "TeacherTraining",
    "TrackingSpec",
    "TrainingSpec",
    "UnlabelledSpec",
    "ViewName",
    "WandbSpec",
    "digest",
    "digest_of",
    "exports_of",
    "merge",
    "parse_document",
    "parse_spec",
    "parse_sweep",
    "schema",
    "sweep_schema",
]


AnySpec = JobSpec | AdviceSpec | EvaluateSpec
"""Whatever a job can be asked to do."""
TASKS: dict[str, type[JobSpec | AdviceSpec | EvaluateSpec]] = {
    "distill": JobSpec,
    "advise": AdviceSpec,
    "evaluate": EvaluateSpec,
}
"""The documents that there are, by what they call their ``task``."""


def parse_spec(document: Any) -> AnySpec:
    """Validate a document of any task, and expand its presets; parsing the dump of the result gives an equal spec.

    Raises:
        SpecError: one Problem per mistake, each with its path, what is wrong and what would be right.

    """
    if not isinstance(document, dict):
        raise SpecError(
            [FieldProblem("$", f"must be a mapping, not {shown(document)}", "required: name, data, teacher")]
        )
    task = document.get("task", "distill")
    model = TASKS.get(task) if isinstance(task, str) else None
    if model is None:
        message = f"{shown(task)} is not one of the known values"
        raise SpecError([FieldProblem("task", message, f"known: {', '.join(TASKS)}")])
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise SpecError(explain(error, model)) from error


def parse_sweep(document: Any) -> SweepSpec:
    """Validate a sweep document, without its trials (``retort.sweeps.search_space.check``).

    Raises:
        SpecError: one Problem per mistake, each with its path, what is wrong and what would be right.

    """
    if not isinstance(document, dict):
        hint = "required: name, base, parameters, search"
        raise SpecError([FieldProblem("$", f"must be a mapping, not {shown(document)}", hint)])
    try:
        return SweepSpec.model_validate(document)
    except ValidationError as error:
        raise SpecError(explain(error, SweepSpec)) from error


def exports_of(spec: AnySpec) -> tuple[Any, ...]:
    """Return the forms that *spec* asks for."""
    return () if isinstance(spec, AdviceSpec) else spec.exports


def digest(spec: AnySpec | SweepSpec) -> str:
    """SHA-256 of the spec's canonical JSON, in hex."""
    return digest_of(spec.model_dump(mode="json"))


def digest_of(document: Any) -> str:
    """SHA-256 of a dumped spec's canonical JSON, in hex."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def schema(task: str = "distill") -> dict[str, Any]:
    """JSON Schema (2020-12) of the document of *task* as people write it."""
    made = TASKS[task].model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def weight_names(spec: AnySpec) -> dict[str, str]:
    """Return the weights files and registered models that *spec* names, by their dotted paths in the document."""
    if isinstance(spec, EvaluateSpec):
        return {f"networks.{index}": one for index, one in enumerate(spec.networks)}
    named: dict[str, str | None] = {"student.weights": spec.student.weights}
    if isinstance(spec, AdviceSpec):
        named |= {f"candidates.{index}": one for index, one in enumerate(spec.candidates)}
    else:
        train = spec.teacher.train
        named |= {"teacher.weights": spec.teacher.weights, "teacher.train.weights": train.weights if train else None}
        named |= {f"teacher.ensemble.{index}.weights": one.weights for index, one in enumerate(spec.teacher.ensemble)}
    return {path: name for path, name in named.items() if name is not None}


def definition_names(spec: AnySpec) -> dict[str, str]:
    """Return the files that describe networks, by their dotted paths in the document."""
    if isinstance(spec, EvaluateSpec):
        return {}
    named: dict[str, str | None] = {"student.model": spec.student.model}
    if not isinstance(spec, AdviceSpec) and spec.teacher.train is not None:
        named["teacher.train.model"] = spec.teacher.train.model
    return {path: name for path, name in named.items() if name is not None and name.endswith(DEFINITIONS)}
