"""Define the base of export formats: a name and options."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from retort.schema import InputModel, LocalPath, absent, field_error, require_tag

FEWEST_IMAGES, ENOUGH_IMAGES = 50, 300
"""Calibration: fewer images are refused, and fewer than enough are warned of."""


class Export(InputModel):
    """One form of the student to make, measured on the validation images after it was made.

    A variant has the field ``precision`` as well: of its weights, and with int8 of its activations.
    """

    model_config = ConfigDict(json_schema_extra=require_tag("format"))

    max_map_drop: float | None = Field(default=0.01, ge=0, le=1)
    """Budget: the mAP50-95 (0 to 1) that it may lose against the student in PyTorch; null accepts any loss."""

    suffix: ClassVar[str]
    """Ending of the file or folder, with what belongs before it."""
    media_type: ClassVar[str] = "application/octet-stream"
    exact: ClassVar[bool] = False
    """Whether its form in float32 must give PyTorch's boxes, one by one."""


class Calibrated(Export):
    """A form that may be in INT8, whose ranges come from training images, or from those of a folder."""

    calibration_images: int = Field(default=ENOUGH_IMAGES, ge=FEWEST_IMAGES, le=10_000)
    """Training images that the INT8 ranges are taken from, stratified by class; none of them is a validation image."""
    calibration_path: LocalPath | None = Field(default=None, exclude_if=absent)
    """A folder of images of the place of use that they are taken from instead, inside a folder the operator allows."""
    aware_epochs: int = Field(default=0, ge=0, le=1000)
    """Train the student on for so many epochs with INT8 simulated in it (QAT); weights and ranges come from there."""
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
