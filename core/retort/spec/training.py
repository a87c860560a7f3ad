"""Define how networks are trained: schedule, optimizer, loss gains and augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from retort.schema import InputModel, field_error

Side = Annotated[int, Field(ge=64, le=2048, multiple_of=32)]
"""Side of a square input in pixels."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A probability, or a part of a whole."""

LEARNING_RATE = 0.01
"""Initial learning rate where a spec gives none."""
MOMENTUM = 0.937
"""Momentum of the optimizer where a spec gives none."""

SMALLEST_BATCH, USUAL_BATCH, LARGEST_BATCH = 2, 16, 1024
"""Images of a batch at least, where a spec gives no number, and at most."""


def layer_prefix(value: int | str) -> int | str:
    """Accept the number of a layer, or the beginning of its name."""
    if isinstance(value, int) and value < 0:
        raise field_error("must not be negative", hint="layers count from 0")
    if isinstance(value, str) and not (
        value and all(part.isidentifier() or part.isdigit() for part in value.split("."))
    ):
        raise field_error("is not a layer's name", hint="such as 23.cv2, the layer's number first")
    return value


_Auto = Annotated[Literal["auto"], WithJsonSchema({"type": "string", "enum": ["auto"]})]
"""Generated clients take a ``const`` beside a number for all that there may be."""


def number_or_auto(value: object) -> object:
    """Accept a number of images that can be trained on, or the word for finding one."""
    if value == "auto":
        return value
    hint = f"a whole number from {SMALLEST_BATCH} to {LARGEST_BATCH}, such as {USUAL_BATCH}, or auto"
    if not isinstance(value, int) or isinstance(value, bool):
        raise field_error(f"should be a whole number or auto, got {value!r}", hint=hint)
    if value < SMALLEST_BATCH:
        raise field_error(f"should be greater than or equal to {SMALLEST_BATCH}, got {value}", hint=hint)
    if value > LARGEST_BATCH:
        raise field_error(f"should be less than or equal to {LARGEST_BATCH}, got {value}", hint=hint)
    return value


FrozenLayer = Annotated[int | Annotated[str, Field(max_length=120)], AfterValidator(layer_prefix)]


class AugmentationFields(InputModel):
    """How training images are varied, by Ultralytics' names."""

    fliplr: Share = 0.5
    """Probability of mirroring an image left to right."""
    flipud: Share = 0.0
    """Probability of turning an image upside down, as in a mirror."""
    hsv_h: Share = 0.015
    """Largest change of the hue, as a part of the whole circle."""
    hsv_s: Share = 0.7
    """Largest change of the saturation, as a part of its value."""
    hsv_v: Share = 0.4
    """Largest change of the brightness, as a part of its value."""
    mosaic: Share = 1.0
    """Probability of joining an image with three others; 0 trains on single images."""
    scale: Share = 0.5
    """Largest change of the size, as a part of it: 0.5 is from half to one and a half."""
    translate: Share = 0.1
    """Largest shift, as a part of the image's side."""
    degrees: float = Field(default=0.0, ge=0, le=180)
    """Largest rotation to either side."""
    shear: float = Field(default=0.0, ge=0, lt=90)
    """Largest shear along either axis."""
    perspective: Share = 0.0
    """Largest tilt of the image's plane; values up to 0.001 are usual."""
    mixup: Share = 0.0
    """Probability of blending a training image with another."""
    cutmix: Share = 0.0
    """Probability of pasting a part of another training image."""


class TrainingSpec(AugmentationFields):
    """How student and control are trained.

    A teacher trained by the job differs in ``epochs`` and ``freeze`` only.
    """

    epochs: int = Field(default=100, ge=1, le=10_000)
    """Passes over the training images."""
    patience: int = Field(default=0, ge=0, le=10_000)
    """End a training when so many epochs have passed without a better one; 0 trains all ``epochs``. Student and control
    each end by this rule."""
    time: float | None = Field(default=None, gt=0, le=8760)
    """End a training with the epoch in which it has taken so long, over all attempts. Student and control each have
    this much; the learning rate falls over ``epochs`` all the same, other than in Ultralytics."""
    imgsz: Side = 640
    """Side of the square input in pixels."""
    multi_scale: float = Field(default=0.0, ge=0, lt=1)
    """Largest change of ``imgsz`` from batch to batch, as a part of it, in steps of the network's stride."""
    batch: Annotated[
        Annotated[int, Field(ge=SMALLEST_BATCH, le=LARGEST_BATCH)] | _Auto, BeforeValidator(number_or_auto)
    ] = USUAL_BATCH
    """Labelled images in one forward pass, over all GPUs. ``auto`` finds a number before the first training by what a
    step of the largest arm takes of the GPU, once for all arms, seeds and attempts; on a CPU it is 16."""
    nominal_batch: int = Field(default=64, ge=1, le=1024)
    """Images per step of the optimizer: gradients of smaller batches add up to it. Give it the value of ``batch`` to
    take a step with every batch, which short trainings need."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Train on this part of the training images only, the first in the order of their paths."""
    optimizer: Literal["auto", "SGD", "Adam", "AdamW", "MuSGD"] = "auto"
    """``auto`` chooses optimizer and learning rate by the number of steps, and ignores ``lr``."""
    lr: float = Field(default=LEARNING_RATE, gt=0, le=1)
    """Initial learning rate of every optimizer but ``auto``; Ultralytics calls it ``lr0``."""
    lrf: float = Field(default=0.01, gt=0, le=1)
    """Learning rate at the end, as a part of the initial one."""
    cos_lr: bool = False
    """Lower the learning rate along a cosine, in place of a straight line."""
    warmup_epochs: float = Field(default=3.0, ge=0, le=10_000)
    """Epochs in which the learning rate rises from zero; the last epoch of all is never one of them. The
    distillation's own ramp is ``distillation.schedule.warmup_epochs``."""
    momentum: float = Field(default=MOMENTUM, ge=0, lt=1)
    """Momentum of SGD, or the first beta of Adam."""
    weight_decay: Share = 0.0005
    """Decay of the weights, but for biases and normalisation."""
    head_lr_multiplier: float | None = Field(default=None, gt=0, le=100)
    """Learning rate of the Detect head over that of the rest; null takes the recipe's."""
    freeze: (
        Annotated[int, Field(ge=0)] | Annotated[tuple[FrozenLayer, ...], Field(strict=False, max_length=1000)] | None
    ) = Field(default=None, union_mode="left_to_right")
    """Leave the student's first layers, this many, as they are; or a list of layers, by number or name."""
    box: float = Field(default=7.5, ge=0, le=1000)
    """Weight of the task's box loss."""
    cls_gain: float = Field(default=0.5, ge=0, le=1000)
    """Weight of the task's class loss; Ultralytics calls it ``cls``, which is taken too."""
    dfl: float = Field(default=1.5, ge=0, le=1000)
    """Weight of the task's loss of box distances."""
    cls_pw: Share = 0.0
    """Weigh classes in the task's class loss by the inverse of their frequency to this power; 0 weighs all alike."""
    single_cls: bool = False
    """Train all classes as one, called item: teacher, student and control. A teacher that is given must have that one
    class; labels are changed in the job's copies only."""
    amp: bool = True
    """Mixed precision on a GPU; on a CPU that computes bfloat16, for the teacher alone."""
    deterministic: bool = True
    """Use algorithms that give the same bits each time. Off, a GPU may be faster, and a training that was interrupted
    ends with slightly other weights than one that was not."""
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
    """Train student and control so many times, with the seeds from ``seed`` on, and judge them by an interval."""
    checkpoint_every: int = Field(default=10, ge=1, le=10_000)
    """Publish a student checkpoint, and compare student with teacher, every so many epochs."""

    @model_validator(mode="before")
    @classmethod
    def _upstreams_word(cls, value: object) -> object:
        """Take upstream's word for the class gain: as a field's name it breaks clients generated for Python."""
        if not isinstance(value, dict) or "cls" not in value or "cls_gain" in value:
            return value
        return {("cls_gain" if name == "cls" else name): item for name, item in value.items()}
