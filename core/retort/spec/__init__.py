"""The job spec: one frozen document that says everything a run does."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import ValidationError

from retort.errors import Problem, SpecError
from retort.spec.distillation import DistillationSpec, Schedule
from retort.spec.document import merge, parse_document
from retort.spec.job import JobSpec
from retort.spec.problems import explain
from retort.spec.pseudo_labels import PseudoLabelsSpec
from retort.spec.recipes import RECIPES
from retort.spec.sections import (
    DataSpec,
    FurtherTeacher,
    ResourcesSpec,
    StudentSpec,
    TeacherSpec,
    TeacherTraining,
    TrainingSpec,
    UnlabelledSpec,
)
from retort.spec.wanted import shown

__all__ = [
    "RECIPES",
    "DataSpec",
    "DistillationSpec",
    "FurtherTeacher",
    "JobSpec",
    "PseudoLabelsSpec",
    "ResourcesSpec",
    "Schedule",
    "StudentSpec",
    "TeacherSpec",
    "TeacherTraining",
    "TrainingSpec",
    "UnlabelledSpec",
    "digest",
    "merge",
    "parse_document",
    "parse_spec",
    "schema",
]


def parse_spec(document: Any) -> JobSpec:
    """Validate a document and expand its presets; parsing the dump of the result gives an equal spec.

    Raises:
        SpecError: one Problem per mistake, each with its path, what is wrong and what would be right.

    """
    if not isinstance(document, dict):
        raise SpecError([Problem("$", f"must be a mapping, not {shown(document)}", "required: name, data, teacher")])
    try:
        return JobSpec.model_validate(document)
    except ValidationError as error:
        raise SpecError(explain(error, JobSpec)) from error


def digest(spec: JobSpec) -> str:
    """SHA-256 of the spec's canonical JSON, in hex."""
    canonical = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the document as people write it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **JobSpec.model_json_schema(mode="validation")}
