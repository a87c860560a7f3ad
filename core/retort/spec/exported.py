"""Define the results of exports: measured, or not and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from retort.schema import StoredModel, absent
from retort.spec.figures import Latency, MeasuredFigures


class CalibrationFigures(StoredModel):
    """The images that gave an INT8 form its ranges."""

    num_images: int
    """Images that were used."""
    wanted: int
    """As the spec says."""
    path: str | None = Field(default=None, exclude_if=absent)
    """Their folder, as the spec says; null where they are training images."""
    per_class: dict[str, int]
    """Images that show each class; empty for a folder, whose labels are not read."""
    warning: str | None
    """What is wrong with so few."""


class FallbackStep(StoredModel):
    """One try to stay within the budget."""

    num_kept: int
    """Layers in higher precision."""
    map: float
    """mAP50-95."""
    map_drop: float
    """Against the student in PyTorch."""


class LayerSensitivity(StoredModel):
    """What one layer in INT8 alone does to the output."""

    layer: str
    """Its name in the graph."""
    error: float
    """Change of scores, and of boxes relative to the image."""


class ExportFigures(StoredModel):
    """What is known of every form."""

    format: str
    """As in the spec."""
    precision: str = "fp32"
    """As in the spec."""
    path: str
    """Its name among the artifacts."""
    reason: str | None = None
    """Why it is not what was asked for."""
    hint: str | None = None
    """What to do about it."""
    files: tuple[str, ...] = ()
    """Artifacts that were published for it."""
    calibration: CalibrationFigures | None = None
    """Of an INT8 form that was calibrated."""


class MeasuredExport(ExportFigures, MeasuredFigures):
    """A form that was made and measured by the code that measures the student."""

    status: Literal["passed", "over_budget", "no_score", "differs"]
    """``over_budget`` loses more than ``max_map_drop``; ``no_score`` finds nothing; ``differs`` is not published."""
    map50: float
    """mAP at an IoU of 0.50."""
    map: float
    """mAP50-95."""
    latency_ms: Latency
    """Of one image."""
    map_drop: float
    """The student's mAP50-95, on the same squares, less this."""
    base_map: float | None = Field(default=None, exclude_if=absent)
    """The student's mAP50-95 in PyTorch on the squares that the form was judged on."""
    max_map_drop: float | None
    """The budget; null where there is none."""
    latency_ratio: float
    """Its latency over PyTorch's on the same device, taking turns."""
    kept: tuple[str, ...] = ()
    """Layers in higher precision."""
    steps: tuple[FallbackStep, ...] = ()
    """Every try to stay within the budget."""
    sensitivity: tuple[LayerSensitivity, ...] = ()
    """The layers that INT8 hurts most, the worst first."""
    size_bytes: int | None = Field(default=None, exclude_if=absent)
    """Of its files; absent where it is not published."""
    max_relative_error: float | None = Field(default=None, exclude_if=absent)
    """Largest difference of its raw output from PyTorch's: of a score, or of a coordinate relative to the image; absent
    where not compared."""
    num_images: int | None = Field(default=None, exclude_if=absent)
    """Images on which it was compared."""
    num_boxes: int | None = Field(default=None, exclude_if=absent)
    """Boxes that PyTorch gives on them."""
    num_unequal: int | None = Field(default=None, exclude_if=absent)
    """Boxes of either side that the other does not see; ties, in which NMS keeps one of two equals, do not count."""


class UnmeasuredExport(ExportFigures):
    """A form of which nothing was measured: it could not be made, or is from before forms were measured."""

    status: Literal["passed", "needs", "failed", "timed_out"] = "passed"
    """``needs`` can be made elsewhere from ``files``; ``passed`` is only said in results from before."""
    code: str | None = Field(default=None, exclude_if=absent)
    """Of the failure; absent where it did not fail."""
    size_bytes: int | None = Field(default=None, exclude_if=absent)
    """Of its file, in results from before."""


def _kind(value: Any) -> str:
    measured = "map" in value if isinstance(value, Mapping) else isinstance(value, MeasuredExport)
    return "measured" if measured else "unmeasured"


AnyExport = Annotated[
    Annotated[MeasuredExport, Tag("measured")] | Annotated[UnmeasuredExport, Tag("unmeasured")],
    Discriminator(_kind),
]
"""Only a form that was measured has ``map``."""
