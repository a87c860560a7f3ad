"""The job spec: one frozen document that says everything a run does."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from retort.errors import Problem, SpecError
from retort.exports import AnyExport
from retort.spec.distillation import DistillationSpec, Schedule
from retort.spec.problems import explain
from retort.spec.recipes import RECIPES
from retort.spec.sections import DataSpec, StudentSpec, TeacherSpec, TeacherTraining, TrainingSpec
from retort.variants import Frozen

__all__ = [
    "RECIPES",
    "DataSpec",
    "DistillationSpec",
    "JobSpec",
    "Schedule",
    "StudentSpec",
    "TeacherSpec",
    "TeacherTraining",
    "TrainingSpec",
    "digest",
    "parse_document",
    "parse_spec",
    "schema",
]


class JobSpec(Frozen):
    """A distillation job."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    """Letters, digits, dot, underscore and hyphen; it need not be unique."""
    data: DataSpec
    teacher: TeacherSpec
    student: StudentSpec
    distillation: DistillationSpec
    training: TrainingSpec
    control: bool = True
    """Also train the same student without distillation, same seed and schedule, and report the difference."""
    exports: tuple[AnyExport, ...] = Field(default=({"format": "onnx"},), validate_default=True, max_length=8)

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        document = {"student": {}, "distillation": {}, "training": {}, **value}
        distillation, training = document["distillation"], document["training"]
        if isinstance(distillation, dict) and isinstance(training, dict) and training.get("head_lr_multiplier") is None:
            preset = RECIPES.get(str(distillation.get("recipe", "balanced")), {})
            document["training"] = {**training, "head_lr_multiplier": preset.get("head_lr_multiplier", 1.0)}
        return document


def parse_document(text: str | bytes) -> Any:
    """Read YAML or JSON text into plain values.

    Raises:
        SpecError: the text is neither.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        place = f"line {where.line + 1}, column {where.column + 1}" if where else "the document"
        raise SpecError([Problem("$", f"not valid YAML or JSON at {place}")]) from error


def parse_spec(document: Any) -> JobSpec:
    """Validate a document and expand its presets; parsing the dump of the result gives an equal spec.

    Raises:
        SpecError: one Problem per mistake, each with its path, what is wrong and what would be right.
    """
    if not isinstance(document, dict):
        raise SpecError([Problem("$", f"must be a mapping, not {type(document).__name__}")])
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
