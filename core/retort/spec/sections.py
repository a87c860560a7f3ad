"""The sections of a job spec that name data, networks and training."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from retort import references
from retort.names import ModelName
from retort.variants import Written, mistake, without_default

Side = Annotated[int, Field(ge=64, le=2048, multiple_of=32)]
"""Side of a square input in pixels."""

LEARNING_RATE = 0.01
"""Initial learning rate where a spec gives none."""


def weights_file(value: str) -> str:
    """Accept a registered model by its digest, or a bare ``.pt`` file name, whose place is the operator's business."""
    if value.startswith(references.PREFIX):
        return _registered(value)
    if any(part in value for part in "/\\") or value.startswith("."):
        hint = "a bare file name in the operator's model folder, such as yolo11l.pt"
        raise mistake("must be a bare file name, not a path", hint=hint)
    if not value.endswith(".pt") or not value.isprintable():
        hint = f"such as yolo11l.pt; or a registered model: {references.FORM}"
        raise mistake("must be a file name that ends in .pt", hint=hint)
    return value


def _registered(value: str) -> str:
    """Insist on the digest: a name alone would mean another model with every one that is registered."""
    if references.parse(value) is not None:
        return value
    name = value.removeprefix(references.PREFIX).partition("@")[0]
    if "@" not in value:
        hint = f"model:{name}@sha256:DIGEST, with 64 hexadecimal digits; retort models show {name} lists them"
        raise mistake(f"names the model {name!r} without a digest, so that it could change its meaning", hint=hint)
    raise mistake("is not a reference to a registered model", hint=references.FORM)


WeightsFile = Annotated[
    str,
    Field(
        min_length=4,
        max_length=160,
        json_schema_extra={"pattern": rf"^([^./\\][^/\\]*\.pt|{references.PATTERN})$"},
    ),
    AfterValidator(weights_file),
]


def local_path(value: str) -> str:
    """Accept a path that a file system can hold."""
    if "\0" in value:
        raise mistake("must not hold a NUL character", hint="a folder with a data.yaml, or that file")
    return value


LocalPath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(local_path)]


def _one_of(first: str, second: str, schema: dict[str, Any]) -> None:
    """Say in the JSON Schema what a validator insists on: exactly one of two fields."""
    schema["oneOf"] = [
        {"required": [given], "properties": {given: {"not": {"type": "null"}}, other: {"type": "null"}}}
        for given, other in ((first, second), (second, first))
    ]


class UnlabelledSpec(Written):
    """Images without labels, for the distillation terms of the student alone."""

    path: LocalPath
    """A folder of images, with all its subfolders, inside a folder the operator allows; labels there are not read."""
    ratio: float = Field(default=1.0, gt=0, le=16)
    """Unlabelled images for each labelled image of a step, rounded, at least one a step."""


class DataSource(Written):
    """Where the images and labels are: exactly one of a path, or the name of a known data set."""

    model_config = ConfigDict(json_schema_extra=partial(_one_of, "path", "dataset"))

    path: LocalPath | None = None
    """A dataset folder with a ``data.yaml``, or that file, in YOLO layout, inside a folder the operator allows."""
    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] | None = None
    """A known data set, such as coco128: the worker fetches it where it is not there yet."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        hint = "path: a folder with a data.yaml; dataset: a known data set, such as coco128"
        if self.path is None and self.dataset is None:
            raise mistake("is missing, and so is dataset", at="path", hint=hint)
        if self.path is not None and self.dataset is not None:
            raise mistake("cannot be given beside path", at="dataset", hint=hint)
        return self


class DataSpec(DataSource):
    """The data set of a job."""

    unlabelled: UnlabelledSpec | None = None
    """More images for the student to see its teachers' answers on; the control never sees them."""


class TeacherTraining(Written):
    """Train the teacher on the job's data first."""

    model: ModelName
    """Architecture of the teacher."""
    weights: WeightsFile | None = Field(default=None, json_schema_extra=without_default)
    """Start from these weights; left out, from the published ``<model>.pt``; null starts from random."""
    epochs: int = Field(default=100, ge=1, le=10_000)
    """Passes over the training images."""

    @model_validator(mode="before")
    @classmethod
    def _published(cls, value: object) -> object:
        return published_weights(value)


class FurtherTeacher(Written):
    """A teacher beside the first: any family, size and classes."""

    weights: WeightsFile
    """A file in the model folder, or a registered model by its digest."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """Its say, relative to the other teachers'."""
    imgsz: Side | None = None
    """Side of its square input in pixels; null takes the student's."""


class TeacherSpec(Written):
    """Exactly one of a weights file, or a training; and the teachers beside this one."""

    model_config = ConfigDict(json_schema_extra=partial(_one_of, "weights", "train"))

    weights: WeightsFile | None = None
    """A file in the model folder, published weights such as yolo11l.pt, or a registered model by its digest."""
    train: TeacherTraining | None = None
    """Train the teacher on the data of this job first."""
    imgsz: Side | None = None
    """Side of its square input in pixels, in training and evaluation too; null takes the student's."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """Its say, relative to the further teachers'; what counts are the shares of the sum."""
    ensemble: Annotated[tuple[FurtherTeacher, ...], Field(strict=False)] = Field(default=(), max_length=8)
    """Further teachers: the distillation loss is the weighted mean over all of them."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.weights is None) == (self.train is None):
            hint = "weights: a .pt file; train: a model to train on this data first"
            raise mistake("give exactly one of weights and train", hint=hint)
        return self


class StudentSpec(Written):
    """The network to be taught."""

    model: ModelName = "yolov8n"
    """Architecture of the student."""
    weights: WeightsFile | None = Field(default=None, json_schema_extra=without_default)
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


class TrainingSpec(Written):
    """How student and control are trained; a teacher trained by the job differs in its epochs only."""

    epochs: int = Field(default=100, ge=1, le=10_000)
    """Passes over the training images."""
    imgsz: Side = 640
    """Side of the square input in pixels."""
    batch: int = Field(default=16, ge=2, le=1024)
    """Labelled images in one forward pass, over all GPUs."""
    nominal_batch: int = Field(default=64, ge=1, le=1024)
    """Images per step of the optimizer: gradients of smaller batches add up to it. Give it the value of ``batch`` to
    take a step with every batch, which short trainings need."""
    optimizer: Literal["auto", "SGD", "Adam", "AdamW", "MuSGD"] = "auto"
    """``auto`` chooses optimizer and learning rate by the number of steps, and ignores ``lr``."""
    lr: float = Field(default=LEARNING_RATE, gt=0, le=1)
    """Initial learning rate of every optimizer but ``auto``."""
    head_lr_multiplier: float | None = Field(default=None, gt=0, le=100)
    """Learning rate of the Detect head over that of the rest; null takes the recipe's."""
    amp: bool = True
    """Mixed precision on a GPU; on a CPU that computes bfloat16, for the teacher alone."""
    compile: bool = False
    """Compile the network by torch.compile: minutes before the first step, for faster ones on a GPU."""
    ema: bool = True
    """Evaluate and publish an exponential moving average of the weights."""
    grad_clip: float = Field(default=10.0, gt=0, le=1000)
    """Largest norm of the gradient."""
    close_mosaic: int = Field(default=10, ge=0, le=10_000)
    """Train the last epochs, this many, on whole images without mosaic."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of weights, order of the images, and augmentation."""
    seeds: int = Field(default=1, ge=1, le=16)
    """Train student and control so many times, with the seeds from ``seed`` on, and tell the gain with its interval."""
    checkpoint_every: int = Field(default=10, ge=1, le=10_000)
    """Publish a student checkpoint, and compare student with teacher, every so many epochs."""


class ResourcesSpec(Written):
    """What the job needs of the machine it runs on."""

    gpus: int = Field(default=1, ge=1, le=64)
    """Train on so many GPUs of one machine, each with its share of ``batch``; on a CPU, in so many processes."""
    max_runtime_s: float | None = Field(default=None, gt=0, le=31_536_000)
    """Fail the job once its attempts have run for so long in all; what it has published stays."""
    max_queue_s: float | None = Field(default=None, gt=0, le=31_536_000)
    """Give the job up as expired when it has not started so long after it was queued."""
    halve_batch: bool = False
    """After running out of GPU memory, try once more with half of ``training.batch``, for student and control alike."""
