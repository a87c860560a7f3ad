"""Define which networks a spec names: architectures, weights, and how they begin."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import PurePath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from retort import model_ref
from retort.constants import MODEL_NAMES, MODEL_PATTERN, PUBLISHED_WEIGHTS, WEIGHTS_SUFFIXES
from retort.schema import InputModel, field_error, without_default

DEFAULT_MODEL = "yolov8n"
DEFINITIONS = (".yaml", ".yml")
"""Endings of a network's own description."""
_HELD = {weights: model for model, weights in PUBLISHED_WEIGHTS.items()}
"""Architectures by the published weights that hold them."""


def weights_file(value: str) -> str:
    """Accept a registered model by its digest, or a bare file name, whose place is the operator's business."""
    if value.startswith(model_ref.PREFIX) or model_ref.is_written(value):
        return _registered(value)
    if any(part in value for part in "/\\") or value.startswith("."):
        hint = "a file name in the model folder, such as yolo11l.pt; retort models push brings a file of yours there"
        raise field_error("must be a bare file name, not a path", hint=hint)
    if not value.endswith(WEIGHTS_SUFFIXES) or not value.isprintable():
        named = f"{value}.pt" if value.isalnum() else "yolo11l.pt"
        hint = f"such as {named}; or a registered model: {model_ref.FORM}"
        raise field_error(f"must be a file name that ends in {', '.join(WEIGHTS_SUFFIXES)}", hint=hint)
    return value


def _registered(value: str) -> str:
    """Insist on the digest: a name alone would mean another model with every one that is registered."""
    if model_ref.parse(value) is not None:
        return value
    name = value.removeprefix(model_ref.PREFIX).partition("@")[0]
    if "@" not in value:
        hint = f"model:{name}@sha256:DIGEST; retort models show {name} lists them"
        raise field_error(f"names the model {name!r} without a digest, so that it could change its meaning", hint=hint)
    if model_ref.is_written(value):
        raise field_error("is not written out", hint="only a registry can complete it: write all 64 digits")
    raise field_error("is not a reference to a registered model", hint=model_ref.FORM)


WeightsFile = Annotated[
    str,
    Field(
        min_length=4,
        max_length=160,
        json_schema_extra={"pattern": rf"^([^./\\][^/\\]*\.(pt|safetensors|onnx)|{model_ref.WRITTEN})$"},
    ),
    AfterValidator(weights_file),
]


def architecture(value: str) -> str:
    """Accept an architecture's name, or a file in the model folder that describes one."""
    if value in MODEL_NAMES:
        return value
    if not value.endswith(DEFINITIONS):
        near = get_close_matches(value, MODEL_NAMES, n=1, cutoff=0.8)
        meant = f"did you mean {near[0]}? " if near else ""
        hint = f"{meant}known: such as yolov8n, yolo11s, yolov8n-p2, yolov9t; docs/networks.md lists all; or own.yaml"
        raise field_error("is not one of the known values", hint=hint)
    if PurePath(value).name != value or value.startswith(".") or not value.isprintable():
        hint = "a bare file name in the operator's model folder, such as own.yaml"
        raise field_error("must be a bare file name, not a path", hint=hint)
    return value


ModelName = Annotated[
    str,
    Field(
        min_length=4,
        max_length=160,
        json_schema_extra={"pattern": rf"^({MODEL_PATTERN}|[^./\\][^/\\]*\.ya?ml)$"},
    ),
    AfterValidator(architecture),
]


class NetworkSpec(InputModel):
    """A network to be trained: its architecture, and the weights that it begins from."""

    model: ModelName | None = Field(default=None, json_schema_extra=without_default)
    """Its architecture: a name (docs/networks.md lists them), or a file in the model folder such as own.yaml. Left out
    beside ``weights``, it is built as that file describes it."""
    weights: WeightsFile | None = Field(default=None, json_schema_extra=without_default)
    """Start from these weights; left out, from the published ones of ``model``; null starts from random."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: object) -> object:
        return completed(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.model is None and self.weights is None:
            raise field_error("is missing, and so is weights", at="model", hint="such as yolov8n")
        return self

    @property
    def label(self) -> str:
        """Name of the network for people: its architecture, else its weights."""
        return PurePath(self.model).stem if self.model else model_ref.title(self.weights or "")


def completed(value: dict[str, Any], default: str | None = None) -> dict[str, Any]:
    """Fill in the published weights of an architecture, or the reverse; null stays null."""
    model, weights = value.get("model"), value.get("weights")
    if model is None:
        model = _HELD.get(weights) if isinstance(weights, str) else default
    if "weights" in value or not isinstance(model, str):
        return {**value, "model": model} if model is not None else value
    if model not in PUBLISHED_WEIGHTS and (model in MODEL_NAMES or model.endswith(DEFINITIONS)):
        hint = "weights: null starts from random ones; or name a file that holds this network"
        raise field_error(f"must be given: there are no published weights of {model}", at="weights", hint=hint)
    return {**value, "model": model, "weights": PUBLISHED_WEIGHTS.get(model, f"{model}.pt")}


class TeacherTraining(NetworkSpec):
    """Train the teacher on the job's data first."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["model"]}, {"required": ["weights"]}]})

    epochs: int = Field(default=100, ge=1, le=10_000)
    """Passes over the training images."""


class StudentSpec(NetworkSpec):
    """The network to be taught; yolov8n where nothing is said."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: object) -> object:
        return completed(value, DEFAULT_MODEL) if isinstance(value, dict) else value
