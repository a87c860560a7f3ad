"""The whole job: its sections, and what must hold between them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from retort.exports import AnyExport
from retort.spec.distillation import DistillationSpec
from retort.spec.pseudo_labels import PseudoLabelsSpec
from retort.spec.recipes import preset
from retort.spec.sections import LEARNING_RATE, DataSpec, ResourcesSpec, StudentSpec, TeacherSpec, TrainingSpec
from retort.spec.tracking import TrackingSpec
from retort.variants import Written, mistake


class JobSpec(Written):
    """A distillation job."""

    task: Literal["distill"] = "distill"
    """What the job does; a request for advice says ``advise``, and has other fields."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    """Up to 63 letters, digits, dots, underscores and hyphens; it need not be unique."""
    data: DataSpec
    """The labelled images, and those without labels."""
    teacher: TeacherSpec
    """The network that teaches, and others beside it."""
    student: StudentSpec = Field(default_factory=StudentSpec)
    """The network that learns, and is published."""
    pseudo_labels: PseudoLabelsSpec | None = None
    """More training images for student and control, labelled by the teacher."""
    distillation: DistillationSpec = Field(default_factory=DistillationSpec)
    """What the student learns from the teacher, and how strongly."""
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    """How long, how large and how fast student and control are trained."""
    control: bool = True
    """Also train the same student without distillation, same seed and schedule, and report the difference."""
    exports: Annotated[tuple[AnyExport, ...], Field(strict=False)] = Field(
        default=({"format": "onnx"},), validate_default=True, max_length=16
    )
    """Files to make from the student beside its weights."""
    tracking: TrackingSpec = Field(default_factory=TrackingSpec)
    """TensorBoard, Weights & Biases and MLflow."""
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec)
    """GPUs, and limits in time."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        """Let the recipe fill in the head's learning rate, which stands in another section."""
        if not isinstance(value, dict):
            return value
        training, distillation = value.get("training", {}), value.get("distillation", {})
        if not isinstance(training, dict) or training.get("head_lr_multiplier") is not None:
            return value
        recipe = distillation.get("recipe") if isinstance(distillation, dict) else None
        return {**value, "training": {**training, "head_lr_multiplier": preset(recipe)["head_lr_multiplier"]}}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        training, schedule = self.training, self.distillation.schedule
        if training.optimizer == "auto" and training.lr != LEARNING_RATE:
            hint = "name an optimizer, such as SGD, or leave lr out"
            raise mistake("is not used: optimizer auto chooses the learning rate", at="training.lr", hint=hint)
        if schedule.warmup_epochs > training.epochs:
            hint = f"at most training.epochs, which is {training.epochs}"
            raise mistake("is longer than the training", at="distillation.schedule.warmup_epochs", hint=hint)
        self._agree_on_grids()
        self._share_out()
        return self

    def _share_out(self) -> None:
        """Refuse a batch that the GPUs cannot share."""
        batch, gpus = self.training.batch, self.resources.gpus
        if batch % gpus:
            below, above = batch // gpus * gpus, (batch // gpus + 1) * gpus
            hint = f"a multiple of {gpus}, such as {' or '.join(str(n) for n in (below, above) if n >= gpus)}"
            raise mistake(f"does not divide by resources.gpus, which is {gpus}", at="training.batch", hint=hint)

    def _agree_on_grids(self) -> None:
        """Refuse losses that pair anchors one by one where a teacher sees the images in another size."""
        given = [self.teacher.imgsz, *(teacher.imgsz for teacher in self.teacher.ensemble)]
        sizes = {imgsz or self.training.imgsz for imgsz in given}
        if sizes == {self.training.imgsz}:
            return
        for index, loss in enumerate(self.distillation.losses):
            if loss.needs_same_grid and not loss.falls_back():
                message = f"the loss {loss.kind} needs teachers that see the images at training.imgsz"
                hint = "use box_giou, which compares decoded boxes, or leave the teacher's imgsz out"
                raise mistake(message, at=f"distillation.losses.{index}", hint=hint)
