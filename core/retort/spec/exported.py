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


class AwareFigures(StoredModel):
    """The quantization-aware training of an INT8 form, beside calibration alone."""

    teacher: Literal["student", "teacher", "none"]
    """Who taught, in float: the student as it was, the job's teacher, or labels alone."""
    epochs: int
    """Epochs that were trained."""
    best_epoch: int
    """The one that is kept, by mAP50-95; 0 is the student with ranges of a few batches, untrained."""
    maps: tuple[float, ...]
    """mAP50-95 of the simulated INT8: untrained, then after each epoch."""
    start_drop: float
    """The student's mAP50-95 in float less that of simulated INT8, untrained."""
    drop: float
    """The same of the file that this training gives, run as it will be."""
    calibrated_drop: float
    """The same of a file that is calibrated alone, with its fallback where both are over the budget."""
    integer_share: float
    """Share of the weights that the graph stores in 8 bits, 0 to 1."""
    taken: Literal["trained", "calibrated"]
    """Which of the two files is published: the one that loses less."""

    @property
    def sentence(self) -> str:
        """Tell what the training did, in points of mAP50-95."""
        by = {"student": "its float self", "teacher": "the job's teacher", "none": "labels alone"}[self.teacher]
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        kept = f"epoch {self.best_epoch} is kept" if self.best_epoch else "no epoch was better than none"
        lost = f"it {_lost(self.drop)}, untrained it {_lost(self.start_drop)}"
        alone = f"calibration alone {_lost(self.calibrated_drop)}"
        taken = "" if self.taken == "trained" else ", and is in the file"
        share = f"{self.integer_share:.1%} of the trained weights are in 8 bits"
        return f"trained on for {epochs} in simulated INT8, taught by {by}: {kept}, {lost}; {alone}{taken}; {share}"


def _lost(drop: float) -> str:
    points = round(drop * 100, 1)
    return f"gains {-points:.1f} points" if points < 0 else f"loses {abs(points):.1f} points"


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
    """Of one run: of one image, or of as many as a form of a fixed ``batch`` takes."""
    shape: tuple[int, ...] | None = Field(default=None, exclude_if=absent)
    """Height and width at which it was judged and timed; absent, like the next three, in results from before."""
    batch: int | None = Field(default=None, exclude_if=absent)
    """Images that it takes at once, no more and no fewer; of a dynamic form with NMS the most."""
    dynamic: bool | None = Field(default=None, exclude_if=absent)
    """Whether batch and image size are open."""
    boxes: Literal["raw", "nms", "nms_free"] | None = Field(default=None, exclude_if=absent)
    """What it gives: ``raw`` is every anchor's box, which needs NMS; ``nms`` is final boxes, after NMS inside it;
    ``nms_free`` is final boxes of a head that needs none."""
    conf: float | None = Field(default=None, exclude_if=absent)
    """Score below which NMS inside it gives no box; absent, like ``iou``, where it has none."""
    iou: float | None = Field(default=None, exclude_if=absent)
    """Overlap above which NMS inside it takes two boxes of a class for one."""
    most_boxes: int | None = Field(default=None, exclude_if=absent)
    """Final boxes of an image at most; absent where it gives raw output."""
    map_drop: float
    """The student's mAP50-95, in the same shape, less this."""
    base_map: float | None = Field(default=None, exclude_if=absent)
    """The student's mAP50-95 in PyTorch in the shape that the form was judged in; with NMS at the thresholds inside the
    form, where it has one."""
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
    aware: AwareFigures | None = Field(default=None, exclude_if=absent)
    """Of a form with ``aware_epochs``; absent in results from before."""
    size_bytes: int | None = Field(default=None, exclude_if=absent)
    """Of its files; absent where it is not published."""
    max_relative_error: float | None = Field(default=None, exclude_if=absent)
    """Largest difference from PyTorch's of its raw output or final boxes, computed in float32: of a score, or of a
    coordinate relative to the image; absent where not compared."""
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
