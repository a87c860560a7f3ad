"""The sections of a job spec that name data, networks and training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from retort.names import ModelName
from retort.variants import Frozen


def weights_file(value: str) -> str:
    """Accept a bare ``.pt`` file name: where it lies is the operator's business."""
    if "/" in value or "\\" in value or value.startswith("."):
        msg = "must be a bare file name in the operator's model folder, such as yolo11l.pt, not a path"
        raise ValueError(msg)
    if not value.endswith(".pt"):
        msg = "must end in .pt"
        raise ValueError(msg)
    return value


WeightsFile = Annotated[str, Field(min_length=4, max_length=128), AfterValidator(weights_file)]


class DataSpec(Frozen):
    """Where the images and labels are."""

    path: str = Field(min_length=1, max_length=4096)
    """A dataset folder with a ``data.yaml``, or that file, in YOLO layout, inside a folder the operator allows."""


class TeacherTraining(Frozen):
    """Train the teacher on the job's data first."""

    model: ModelName
    weights: WeightsFile | None = None
    """Start from these weights; left out, from the published ``<model>.pt``; null starts from random."""
    epochs: int = Field(default=100, ge=1, le=10_000)

    @model_validator(mode="before")
    @classmethod
    def _published(cls, value: object) -> object:
        return published_weights(value)


class TeacherSpec(Frozen):
    """Exactly one of a weights file, or a training."""

    weights: WeightsFile | None = None
    train: TeacherTraining | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.weights is None) == (self.train is None):
            msg = "give exactly one of weights (a .pt file) or train (a model to train on this data first)"
            raise ValueError(msg)
        return self


class StudentSpec(Frozen):
    """The network to be taught."""

    model: ModelName = "yolov8n"
    weights: WeightsFile | None = None
    """Start from these weights; left out, from the published ``<model>.pt``; null starts from random."""

    @model_validator(mode="before")
    @classmethod
    def _published(cls, value: object) -> object:
        return published_weights(value, "yolov8n")


def published_weights(value: object, default: str | None = None) -> object:
    """Fill in the published weights where the document leaves them out (null stays null)."""
    if isinstance(value, dict) and "weights" not in value and isinstance(value.get("model", default), str):
        return {**value, "weights": f"{value.get('model', default)}.pt"}
    return value


class TrainingSpec(Frozen):
    """How student and control are trained; a teacher trained by the job differs in its epochs only."""

    epochs: int = Field(default=100, ge=1, le=10_000)
    imgsz: int = Field(default=640, ge=64, le=2048, multiple_of=32)
    """Side of the square input in pixels."""
    batch: int = Field(default=16, ge=2, le=1024)
    optimizer: Literal["auto", "SGD", "Adam", "AdamW", "MuSGD"] = "auto"
    """``auto`` chooses optimizer and learning rate by the number of steps, and ignores ``lr``."""
    lr: float = Field(default=0.01, gt=0, le=1)
    """Initial learning rate of every optimizer but ``auto``."""
    head_lr_multiplier: float | None = Field(default=None, gt=0, le=100)
    """Learning rate of the Detect head over that of the rest; null takes the recipe's."""
    amp: bool = True
    """Mixed precision on a GPU; on a CPU it has no effect."""
    ema: bool = True
    """Evaluate and publish an exponential moving average of the weights."""
    grad_clip: float = Field(default=10.0, gt=0, le=1000)
    """Largest norm of the gradient."""
    close_mosaic: int = Field(default=10, ge=0, le=10_000)
    """Train the last epochs, this many, on whole images without mosaic."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    checkpoint_every: int = Field(default=10, ge=1, le=10_000)
    """Publish a student checkpoint, and compare student with teacher, every so many epochs."""
