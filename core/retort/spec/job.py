"""The job spec: its sections, and what must hold between them."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from retort import dataset_ref
from retort.constants import MODEL_NAMES, NMS_FREE
from retort.exports import EXPORT_FORMATS, AnyExport
from retort.losses.base import can_be_taught
from retort.schema import InputModel, LocalPath, distinct, field_error, without_default
from retort.spec.adapter import TeacherAdapter
from retort.spec.arms import Arms, by_default
from retort.spec.distillation import DistillationSpec, preset
from retort.spec.networks import StudentSpec, TeacherTraining, WeightsFile
from retort.spec.training import LEARNING_RATE, MOMENTUM, Side, TrainingSpec


def _one_of(first: str, second: str, schema: dict[str, Any]) -> None:
    """Say in the JSON Schema what a validator insists on: exactly one of two fields."""
    schema["oneOf"] = [
        {"required": [given], "properties": {given: {"not": {"type": "null"}}, other: {"type": "null"}}}
        for given, other in ((first, second), (second, first))
    ]


class UnlabelledSpec(InputModel):
    """Images without labels, for the distillation terms of the student alone."""

    path: LocalPath
    """A folder of images, with all its subfolders, inside a folder the operator allows; labels there are not read."""
    ratio: float = Field(default=1.0, gt=0, le=16)
    """Unlabelled images for each labelled image of a step, rounded, at least one a step."""


def _dataset(value: str) -> str:
    """Accept a known data set's name, or a registered dataset by its digest."""
    if dataset_ref.parse(value) is not None or re.fullmatch(dataset_ref.NAME, value):
        return value
    if "@" in value or value.startswith(dataset_ref.PREFIX):
        raise field_error("is not written out", hint="only a service can complete it: dataset:NAME@sha256:DIGEST")
    raise field_error("names no dataset", hint="a known one, such as coco128, or dataset:NAME@sha256:DIGEST")


DatasetName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=160,
        json_schema_extra={"pattern": rf"^({dataset_ref.NAME}|{dataset_ref.WRITTEN})$"},
    ),
    AfterValidator(_dataset),
]


class DataSource(InputModel):
    """Where the images and labels are: exactly one of a path, or the name of a dataset."""

    model_config = ConfigDict(json_schema_extra=partial(_one_of, "path", "dataset"))

    path: LocalPath | None = None
    """A folder in YOLO layout, its ``data.yaml``, or COCO or VOC annotations, inside a folder the operator allows."""
    dataset: DatasetName | None = None
    """A registered dataset, ``dataset:NAME@sha256:DIGEST``, or a known one, such as coco128: the worker fetches it."""
    max_missing_labels: float = Field(default=0.5, ge=0, le=1)
    """Share of a split's images that may lack a label file and count as background; 1 takes all such images for it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        hint = "path: a folder with a data.yaml; dataset: a registered one, or a known one, such as coco128"
        if self.path is None and self.dataset is None:
            raise field_error("is missing, and so is dataset", at="path", hint=hint)
        if self.path is not None and self.dataset is not None:
            raise field_error("cannot be given beside path", at="dataset", hint=hint)
        return self


class DataSpec(DataSource):
    """The data set of a job."""

    unlabelled: UnlabelledSpec | None = None
    """More images for the student to see its teachers' answers on; the control never sees them."""


class FurtherTeacher(InputModel):
    """A teacher beside the first: any family, size and classes."""

    weights: WeightsFile
    """A file in the model folder, or a registered model by its digest."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """Its say, relative to the other teachers'."""
    imgsz: Side | None = None
    """Side of its square input in pixels; null takes the student's."""
    adapter: TeacherAdapter | None = None
    """What the outputs of a detector that is no YOLO are, where its file does not say so."""


ViewName = Literal["flip", "scales", "tiles"]
"""Ways to look at an image beside once as it is."""

Views = Annotated[
    tuple[ViewName, ...],
    Field(strict=False, max_length=3, json_schema_extra={"uniqueItems": True}),
    AfterValidator(distinct),
]


class TeacherSpec(InputModel):
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
    adapter: TeacherAdapter | None = None
    """What the outputs of a detector that is no YOLO are, where its file does not say so."""
    ensemble: Annotated[tuple[FurtherTeacher, ...], Field(strict=False)] = Field(default=(), max_length=8)
    """Further teachers: the distillation loss is the weighted mean over all of them."""
    cache: bool = False
    """Ask the teacher about each image once, ahead of time; its boxes and class probabilities are kept in a file and
    teach the student without the teacher, at about the cost of a plain step."""
    views: Views = ()
    """Beside ``cache``, how the teacher looks at each image again: ``flip``, mirrored; ``scales``, smaller and larger;
    ``tiles``, four parts enlarged. What it sees in all of them is merged; each view costs as much as the first."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.weights is None) == (self.train is None):
            hint = "weights: a .pt file; train: a model to train on this data first"
            raise field_error("give exactly one of weights and train", hint=hint)
        if self.adapter is not None and self.train is not None:
            hint = "leave it out: a teacher that is trained here is a YOLO"
            raise field_error("is for a weights file of another kind", at="adapter", hint=hint)
        given = [(self.weights, self.adapter), *((one.weights, one.adapter) for one in self.ensemble)]
        known = dict(reversed(given))
        if any(adapter != known[weights] for weights, adapter in given):
            raise field_error("differ for the same file", at="adapter", hint="one adapter for each file of weights")
        if self.views and not self.cache:
            message = "are for a teacher that is asked ahead of time"
            raise field_error(message, at="views", hint="cache: true, or leave views out")
        if self.ensemble and self.cache:
            message = "cannot stand beside teacher.cache: one teacher is asked ahead of time"
            raise field_error(message, at="ensemble", hint="leave it out, or leave cache out")
        return self

    def adapters(self) -> dict[str, TeacherAdapter | None]:
        """Return the adapter of each file that teaches, by its name."""
        found = {one.weights: one.adapter for one in self.ensemble}
        return found if self.weights is None else {**found, self.weights: self.adapter}


class ResourcesSpec(InputModel):
    """What the job needs of the machine it runs on."""

    gpus: int = Field(default=1, ge=1, le=64)
    """Train on so many GPUs of one machine, each with its share of ``batch``; on a CPU, in so many processes."""
    require_gpu: bool | None = None
    """Fail before training where no GPU can be used; false lets the CPU stand in, null leaves that to the operator."""
    max_runtime_s: float | None = Field(default=None, gt=0, le=31_536_000)
    """Fail the job once its attempts have run for so long in all; what it has published stays."""
    max_queue_s: float | None = Field(default=None, gt=0, le=31_536_000)
    """Give the job up as expired when it has not started so long after it was queued."""
    halve_batch: bool = False
    """After running out of GPU memory, try once more with half of ``training.batch``, for student and control alike."""


ProjectName = Annotated[str, Field(pattern=r"^[^/\\#?%:\x00-\x1f\x7f]{1,128}$")]
ExperimentName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,256}$")]


class WandbSpec(InputModel):
    """A run in Weights & Biases; whose account it is, is the worker's business."""

    project: ProjectName
    """Where the run is shown; made where there is none."""
    mode: Literal["offline", "online"] = "offline"
    """``offline`` writes a folder on the worker, to be sent by ``wandb sync``; ``online`` sends at once."""
    entity: ProjectName | None = None
    """User or team that the project belongs to; null takes the account's own."""
    artifacts: bool = False
    """Hand over the report and the student's weights, too."""


class MlflowSpec(InputModel):
    """A run in MLflow; where the server is, the operator says."""

    experiment: ExperimentName
    """Where the run is shown; made where there is none."""
    artifacts: bool = False
    """Hand over the report and the student's weights, too."""


class TrackingSpec(InputModel):
    """Who is told of parameters, curves and results beside the service itself; none of them can fail the run."""

    tensorboard: bool = True
    """Offer event files for TensorBoard among the artifacts."""
    wandb: WandbSpec | None = None
    """Also keep the run in Weights & Biases."""
    mlflow: MlflowSpec | None = None
    """Also keep the run in MLflow."""


Score = Annotated[float, Field(ge=0.01, lt=1)]
"""A confidence of a detection."""

_FIRST_DOUBT = 0.3


CopyKind = Literal["off", "identical", "copies", "similar"]
"""What is taken for a copy of an image, from nothing to another picture of the same scene."""


LEAST_SCORE = 0.3
"""Of a box that becomes a label, where scores are chosen by the shares of the classes."""
FEW_LABELS: dict[str, Any] = {
    "confidence": 0.6, "ignore_from": 0.1, "thresholds": "class_share", "labelled_share": 0.5, "burn_in": 0.1,
    "ramp": 0.2,
}  # fmt: skip
"""What the recipe for few labels fills in. Thresholds and burn-in are those of Efficient Teacher (arXiv 2302.07577)."""


class PseudoLabelsSpec(InputModel):
    """Images without labels, which the teacher labels for student and control alike."""

    recipe: Literal["plain", "few_labels"] = "plain"
    """``few_labels`` is semi-supervised training for few labelled and many other images: it fills in ``confidence``,
    ``ignore_from``, ``thresholds``, ``labelled_share``, ``burn_in`` and ``ramp``; what is written beside it wins."""
    path: LocalPath
    """A folder of images, with all its subfolders, inside a folder the operator allows. Labels that lie there are not
    trained on: the teacher's are compared with them."""
    confidence: Score = Field(default=0.8, json_schema_extra=without_default)
    """Boxes from this score on become labels."""
    per_class: dict[str, Score] = Field(default_factory=dict, max_length=10_000)
    """The same for single classes, by their names."""
    ignore_from: Score | None = Field(default=_FIRST_DOUBT, json_schema_extra=without_default)
    """Boxes from here up to the score that makes a label are neither labels nor background; null is for none."""
    review: Literal["none", "sample", "all"] = "none"
    """Whether the job waits until people have looked at a sample of the images, or at all of them."""
    sample: int = Field(default=50, ge=1, le=100_000)
    """Images in the sample, spread over classes and scores, drawn by ``training.seed``."""
    copies: CopyKind = "copies"
    """Which images are left out because a labelled image, or another of these, shows the same: ``identical`` bytes;
    ``copies``, which may also be re-encoded, mirrored, turned by quarters, cropped, padded or brightened; ``similar``,
    which may also be other pictures of one scene, as of a fixed camera; ``off`` leaves out none."""
    thresholds: Literal["fixed", "class_share"] = Field(default="fixed", json_schema_extra=without_default)
    """``class_share`` chooses the score of each class that ``per_class`` does not name, so that its labels are a fixed
    part of what its share in the labelled images lets expect; ``fixed`` takes ``confidence`` for all."""
    labelled_share: float = Field(default=0.0, ge=0, le=1, json_schema_extra=without_default)
    """Part of each batch that is labelled images at least, in passes of their own; never less than among all."""
    burn_in: float = Field(default=0.0, ge=0, lt=1, json_schema_extra=without_default)
    """Part of the epochs, at their beginning, that is trained on labelled images alone."""
    ramp: float = Field(default=0.0, ge=0, lt=1, json_schema_extra=without_default)
    """Part of the epochs after that, in which pseudo-labelled images grow to their share of a batch."""
    check_labels: bool = False
    """Let the teacher look at the training labels too, for boxes that are missing, doubtful or there twice."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        """Write the recipe out, so that the stored spec no longer depends on what its name means."""
        return {**FEW_LABELS, **value} if isinstance(value, dict) and value.get("recipe") == "few_labels" else value

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        """Insist that doubt ends where labels begin, and that the burn-in leaves epochs for the pseudo-labels."""
        if self.burn_in + self.ramp >= 1:
            message = "and ramp leave no epoch in which pseudo-labelled images have their share"
            raise field_error(message, at="burn_in", hint="less than 1 together, such as burn_in: 0.1 and ramp: 0.2")
        lowest = self._least_label
        if self.ignore_from is not None and self.ignore_from >= lowest:
            hint = f"lower than {lowest:g}, from where boxes are labels; null is for no band"
            raise field_error("does not lie below the scores that make labels", at="ignore_from", hint=hint)
        return self

    def threshold(self, name: str) -> float:
        """Return the score from which boxes of the class *name* are labels."""
        return self.per_class.get(name, self.confidence)

    @property
    def lowest(self) -> float:
        """The score below which boxes mean nothing."""
        return self._least_label if self.ignore_from is None else min(self._least_label, self.ignore_from)

    @property
    def _least_label(self) -> float:
        """The lowest score that may make a label."""
        chosen = [LEAST_SCORE] if self.thresholds == "class_share" else []
        return min([self.confidence, *self.per_class.values(), *chosen])

    @property
    def mixes(self) -> bool:
        """Whether pseudo-labelled images have another share of the batches than they have among all images."""
        return self.labelled_share > 0 or self.burn_in > 0 or self.ramp > 0


class JobSpec(InputModel):
    """A distillation job."""

    task: Literal["distill"] = "distill"
    """What the job does; requests for advice or an evaluation have other fields."""
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
    arms: Arms = ()
    """Further controls, each of which differs from the control in one thing alone: ``class_weights``, the recipe's
    weights of the classes; ``assignment``, labels assigned by the teacher; ``placebo``, all of the distillation,
    from a network that has nothing to teach; ``self``, all of it from the average of the student's own weights;
    ``equal_time``, as much time as the student took; ``labelled_only``, without the pseudo-labelled images; and the
    student ``without_unlabelled`` images. Left out, it is the last two where there are such images and a control,
    else none."""
    exports: Annotated[tuple[AnyExport, ...], Field(strict=False)] = Field(
        default=(EXPORT_FORMATS["onnx"](),), max_length=16, json_schema_extra={"default": [{"format": "onnx"}]}
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
        if "arms" not in value and (arms := by_default(value)):
            value = {**value, "arms": arms}
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
            raise field_error("is not used: optimizer auto chooses the learning rate", at="training.lr", hint=hint)
        if training.optimizer == "auto" and training.momentum != MOMENTUM:
            hint = "name an optimizer, such as SGD, or leave momentum out"
            raise field_error("is not used: optimizer auto chooses the momentum", at="training.momentum", hint=hint)
        if schedule.warmup_epochs > training.epochs:
            hint = f"at most training.epochs, which is {training.epochs}"
            raise field_error("is longer than the training", at="distillation.schedule.warmup_epochs", hint=hint)
        if self.distillation.pilot and training.time is not None:
            hint = "leave training.time out, or the pilot"
            message = "needs to know the number of epochs beforehand, which training.time leaves open"
            raise field_error(message, at="distillation.pilot", hint=hint)
        if self.pseudo_labels is not None and self.pseudo_labels.mixes and training.fraction < 1:
            hint = "leave fraction out, or recipe, labelled_share, burn_in and ramp"
            raise field_error(
                "leaves out labelled images, of which each batch needs some", at="training.fraction", hint=hint
            )
        self._agree_on_grids()
        self._agree_on_cache()
        self._share_out()
        self._agree_on_arms()
        self._agree_on_heads()
        return self

    def _agree_on_arms(self) -> None:
        """Refuse arms that have no control to differ from, or do not differ from it."""
        if self.arms and not self.control:
            raise field_error("need the control that they differ from", at="arms", hint="control: true")
        same = {
            "class_weights": (
                self.distillation.class_balance == 0 or self.training.single_cls,
                "no loss has a class_balance, or there is one class, so that it would be the control again",
            ),
            "assignment": (
                self.distillation.assignment == "student",
                "distillation.assignment is student, so that it would be the control again",
            ),
            "equal_time": (
                self.training.time is not None,
                "training.time is set, by which student and control have equal time already",
            ),
            "labelled_only": (
                self.pseudo_labels is None or self.training.fraction < 1,
                "there are no pseudo_labels, or training.fraction leaves images out, so that steps are not equal",
            ),
            "without_unlabelled": (
                self.data.unlabelled is None,
                "there is no data.unlabelled, so that it would be the student again",
            ),
        }
        for index, arm in enumerate(self.arms):
            refused, why = same.get(arm, (False, ""))
            if refused:
                raise field_error(f"{arm} shows nothing: {why}", at=f"arms.{index}", hint=f"leave {arm} out")

    def _agree_on_cache(self) -> None:
        """Refuse what a teacher that is not there while the student trains cannot do."""
        if not self.teacher.cache:
            return
        if self.training.cutmix:
            message = "does not go with teacher.cache: where it may cut depends on the boxes that are there"
            raise field_error(message, at="training.cutmix", hint="0, or leave teacher.cache out")
        if self.distillation.assignment == "teacher":
            message = "needs a teacher that predicts at every anchor, which a cached one does not"
            raise field_error(message, at="distillation.assignment", hint="auto, or leave teacher.cache out")
        if "assignment" in self.arms:
            message = (
                "assignment shows nothing: a cached teacher assigns no labels, so that it would be the control again"
            )
            at = f"arms.{self.arms.index('assignment')}"
            raise field_error(message, at=at, hint="leave assignment out")
        self._agree_on_cached_losses()

    def _agree_on_cached_losses(self) -> None:
        """Refuse terms that boxes cannot teach where the spec names them, and a recipe of which nothing is left."""
        chosen = self.distillation
        hint = "class_logits, box_giou, or dfl with otherwise: giou; or leave teacher.cache out"
        unable = [index for index, loss in enumerate(chosen.losses) if not can_be_taught(loss)]
        if unable and chosen.losses != preset(chosen.recipe)["losses"]:
            message = f"the loss {chosen.losses[unable[0]].kind} needs more than boxes, which a cached teacher has not"
            raise field_error(message, at=f"distillation.losses.{unable[0]}", hint=hint)
        if all(loss.weight == 0 or index in unable for index, loss in enumerate(chosen.losses)):
            message = f"{chosen.recipe} has no term that a cached teacher can teach: it has boxes alone"
            raise field_error(message, at="distillation.recipe", hint="balanced, or leave teacher.cache out")

    def _agree_on_heads(self) -> None:
        """Refuse the NMS-free head of a student that is known to have none; others are looked at before they train."""
        known = self.student.model in MODEL_NAMES
        for index, export in enumerate(self.exports):
            if getattr(export, "nms", None) is False and known and not str(self.student.model).startswith(NMS_FREE):
                message = f"takes the NMS-free head, which {self.student.model} has not"
                hint = "nms: true puts NMS into the file; YOLO26 and YOLOv10 have such a head"
                raise field_error(message, at=f"exports.{index}.nms", hint=hint)

    def _share_out(self) -> None:
        """Refuse a batch that the GPUs cannot share."""
        batch, gpus = self.training.batch, self.resources.gpus
        if batch != "auto" and batch % gpus:
            below, above = batch // gpus * gpus, (batch // gpus + 1) * gpus
            hint = f"a multiple of {gpus}, such as {' or '.join(str(n) for n in (below, above) if n >= gpus)}"
            raise field_error(f"does not divide by resources.gpus, which is {gpus}", at="training.batch", hint=hint)

    def _agree_on_grids(self) -> None:
        """Refuse losses that pair anchors one by one where a teacher sees the images in another size."""
        given = [self.teacher.imgsz, *(teacher.imgsz for teacher in self.teacher.ensemble)]
        sizes = {imgsz or self.training.imgsz for imgsz in given}
        if sizes == {self.training.imgsz} or self.teacher.cache:  # whose boxes fit any size
            return
        if self.training.multi_scale:
            hint = "leave it out, or leave the teacher's imgsz out"
            message = "does not go with a teacher that sees the images in another size"
            raise field_error(message, at="training.multi_scale", hint=hint)
        for index, loss in enumerate(self.distillation.losses):
            if loss.needs_same_grid and not loss.falls_back():
                message = f"the loss {loss.kind} needs teachers that see the images at training.imgsz"
                hint = "use box_giou, which compares decoded boxes, or leave the teacher's imgsz out"
                raise field_error(message, at=f"distillation.losses.{index}", hint=hint)
