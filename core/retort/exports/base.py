"""Define the base of export formats: a name and options."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from retort.schema import InputModel, LocalPath, absent, field_error, require_tag

FEWEST_IMAGES, ENOUGH_IMAGES = 50, 300
"""Calibration: fewer images are refused, and fewer than enough are warned of."""
CONF, IOU, MAX_DET = 0.25, 0.7, 300
"""Thresholds of NMS inside a file, and its most boxes, where none are given: Ultralytics' own."""
_SHORTEST, _LONGEST, _STRIDE = 64, 2048, 32


def _shape(value: object) -> object:
    """Turn the side of a square into height and width, and refuse what no network can see."""
    given = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, (list, tuple)) else None
    if value is None:
        return None
    whole = given is not None and len(given) == 2 and all(isinstance(one, int) for one in given)
    hint = f"a side, or [height, width]: multiples of {_STRIDE} from {_SHORTEST} to {_LONGEST}, such as [384, 640]"
    if not whole or isinstance(value, bool):
        raise field_error("must be the side of a square, or its height and width", hint=hint)
    if any(not _SHORTEST <= one <= _LONGEST or one % _STRIDE for one in given or ()):
        raise field_error(f"is {value}, which a network cannot see", hint=hint)
    return given


_SIDE = {"type": "integer", "minimum": _SHORTEST, "maximum": _LONGEST, "multipleOf": _STRIDE}
InputShape = Annotated[
    tuple[int, int] | None,
    BeforeValidator(_shape),
    WithJsonSchema(
        {"anyOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}, {"type": "null"}]}
    ),
]


class Export(InputModel):
    """One form of the student to make, measured on the validation images after it was made.

    A variant has the field ``precision`` as well: of its weights, and with int8 of its activations.
    """

    model_config = ConfigDict(json_schema_extra=require_tag("format"))

    max_map_drop: float | None = Field(default=0.01, ge=0, le=1)
    """Budget: the mAP50-95 (0 to 1) that it may lose against the student in PyTorch; null accepts any loss."""
    imgsz: InputShape = Field(default=None, exclude_if=absent)
    """Its input: a side, or ``[height, width]``; null takes the size that the student was trained at. It is judged and
    timed at this shape."""

    suffix: ClassVar[str]
    """Ending of the file or folder, with what belongs before it."""
    media_type: ClassVar[str] = "application/octet-stream"
    exact: ClassVar[bool] = False
    """Whether its form in float32 must give PyTorch's boxes, one by one."""


class Boxed(Export):
    """A form that takes several images at once, and may end in final boxes."""

    batch: int | None = Field(default=None, ge=1, le=128, exclude_if=absent)
    """Images that it takes at once, no more and no fewer; null takes one. Of a ``dynamic`` form with ``nms: true`` the
    most that it takes."""
    dynamic: bool = False
    """Leave batch and image size open; float32 and float16 only."""
    nms: bool | None = Field(default=None, exclude_if=absent)
    """``true`` puts NMS into the file, ``false`` takes the NMS-free head, which YOLO26 and YOLOv10 have: both give
    final boxes. Null gives every anchor's box, whose NMS is its user's to do."""
    conf: float | None = Field(default=None, ge=0, lt=1, exclude_if=absent)
    """With ``nms: true``, the score below which no box is given; null takes 0.25. mAP is judged on what is left."""
    iou: float | None = Field(default=None, gt=0, le=1, exclude_if=absent)
    """With ``nms: true``, the overlap above which two boxes of a class are one; null takes 0.7."""
    max_det: int | None = Field(default=None, ge=1, le=3000, exclude_if=absent)
    """With ``nms``, the most boxes of an image; null takes 300."""

    @model_validator(mode="after")
    def _agrees_on_boxes(self) -> Self:
        for name in ("conf", "iou"):
            if getattr(self, name) is not None and self.nms is not True:
                raise field_error("is of the NMS inside a file", at=name, hint=f"add nms: true, or leave {name} out")
        if self.max_det is not None and self.nms is None:
            hint = "add nms: true or nms: false, or leave max_det out"
            raise field_error("is of a form that gives final boxes", at="max_det", hint=hint)
        if self.dynamic and getattr(self, "precision", None) == "int8":
            hint = "leave dynamic out, or take precision: fp32"
            raise field_error("is for float32 and float16 only", at="dynamic", hint=hint)
        if self.dynamic and self.batch is not None and self.nms is not True:
            hint = "leave batch or dynamic out; with nms: true it is the most images at once"
            raise field_error("is open already in a dynamic form", at="batch", hint=hint)
        return self


class Calibrated(Boxed):
    """A form that may be in INT8, whose ranges come from training images, or from those of a folder."""

    calibration_images: int = Field(default=ENOUGH_IMAGES, ge=FEWEST_IMAGES, le=10_000)
    """Training images that the INT8 ranges are taken from, stratified by class; none of them is a validation image."""
    calibration_path: LocalPath | None = Field(default=None, exclude_if=absent)
    """A folder of images of the place of use that they are taken from instead, inside a folder the operator allows."""
    aware_epochs: int = Field(default=0, ge=0, le=1000)
    """Train the student on for so many epochs with INT8 simulated in it (QAT); weights and ranges come from there."""
    aware_teacher: Literal["student", "teacher", "none"] | None = Field(default=None, exclude_if=absent)
    """Who teaches in those epochs, in float: the student as it was, the job's teacher, or nobody, so that labels teach
    alone; null takes the student."""
    fallback: bool = True
    """Where INT8 loses more than the budget, keep the layers that it hurts most in higher precision."""

    @model_validator(mode="after")
    def _uses_the_folder(self) -> Self:
        if self.calibration_path is None:
            return self
        if getattr(self, "precision", None) != "int8":
            raise field_error("is for INT8 only", at="calibration_path", hint="take precision: int8, or leave it out")
        if self.aware_epochs:
            hint = "leave out calibration_path or aware_epochs"
            raise field_error("is not used where ranges come from a training", at="calibration_path", hint=hint)
        return self

    @property
    def trains(self) -> bool:
        """Whether it is trained on with INT8 simulated in it."""
        return bool(self.aware_epochs) and getattr(self, "precision", None) == "int8"

    @property
    def taught_by(self) -> Literal["student", "teacher", "none"]:
        """Who teaches it then."""
        return self.aware_teacher or "student"

    @model_validator(mode="after")
    def _trains_somebody(self) -> Self:
        if self.aware_teacher is not None and not self.trains:
            hint = "add precision: int8 and aware_epochs, or leave aware_teacher out"
            raise field_error("is of quantization-aware training, and there is none", at="aware_teacher", hint=hint)
        if self.aware_epochs and not self.trains:
            raise field_error("is for INT8 only", at="aware_epochs", hint="take precision: int8, or leave it out")
        return self

    @model_validator(mode="after")
    def _trains_one_shape(self) -> Self:
        if not self.trains:
            return self
        others: dict[str, Any] = {"imgsz": self.imgsz, "batch": self.batch, "nms": self.nms is False or None}
        for name in [name for name, value in others.items() if value is not None]:
            message = "does not go with aware_epochs, whose graph sees one image of the training's size and needs NMS"
            raise field_error(message, at=name, hint=f"leave out {name} or aware_epochs")
        return self
