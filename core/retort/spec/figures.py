"""Figures of networks: what they find, what they cost, and what distillation bought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from retort.constants import Role
from retort.schema import StoredModel, absent


class ClassScores(StoredModel):
    """How well one class is found."""

    ap50: float
    """AP at an IoU of 0.50."""
    ap: float
    """AP over IoU 0.50 to 0.95."""


class SizeScores(StoredModel):
    """How well boxes of one size are found."""

    ap: float | None
    """AP over IoU 0.50 to 0.95; null where there are none."""
    number: int
    """Boxes of this size in the validation images."""


class Latency(StoredModel):
    """Milliseconds for one run of the network, boxes decoded, without NMS where it is not inside."""

    p50: float
    """Median."""
    p90: float
    """Ninth decile."""


class Scores(StoredModel):
    """The mAP of a network on the validation images."""

    map50: float
    """mAP at an IoU of 0.50."""
    map: float
    """mAP50-95."""


class SpeedFigures(StoredModel):
    """What running a network takes; all figures of one result are of one sitting, in which networks take turns."""

    latency_ms: Latency | None
    """Of one image; null where timing failed, for the reason that stands under ``extras``."""
    throughput: dict[str, float | None] = Field(default_factory=dict)
    """Images a second by size of the batch; null where the network does not take so many."""
    peak_memory_bytes: int | None = None
    """What loading and running one image at a time takes at most; null where the system does not tell."""
    runtime: str | None = None
    """What ran it, such as ``PyTorch``."""
    device: str | None = None
    """Kind of device on which it was timed, such as ``cpu``."""
    timed_as: str | None = Field(default=None, exclude_if=absent)
    """What was timed: precision and whether its kernels were recorded, images of a run, their size, and on what, as in
    ``float32, eager, batch 1, 640 px, CPU, 2 threads``; absent in results from before."""
    settings: str | None = Field(default=None, exclude_if=absent)
    """Under which conditions of the runtime, for accuracy and latency alike; an export runs as in plain Ultralytics."""


class TimedFigures(SpeedFigures):
    """What running a network took when it was timed."""

    latency_ms: Latency
    """Of one image."""


class MeasuredFigures(SpeedFigures):
    """What a network finds, and what running it takes."""

    map50: float | None
    """Null, like ``map``, where the network knows none of the data's classes."""
    map: float | None
    """mAP50-95."""
    per_class: dict[str, ClassScores]
    """By class with ground truth."""
    by_size: dict[str, SizeScores] = Field(default_factory=dict)
    """Of ``small``, ``medium`` and ``large`` boxes, by COCO's areas."""
    split: Literal["val", "test"] | None = Field(default=None, exclude_if=absent)
    """Images on which it was judged; absent, like the next three, where nothing was, and in results from before."""
    letterbox: Literal["rectangle", "square", "shape"] | None = Field(default=None, exclude_if=absent)
    """Into what the images were fitted; plain Ultralytics takes rectangles for a ``.pt``, squares for most forms, and
    the shape of a form that sees no squares."""
    max_det: int | None = Field(default=None, exclude_if=absent)
    """Detections of an image that were judged at most: 300, or as many as the fullest image has boxes."""
    command: str | None = Field(default=None, exclude_if=absent)
    """The line of plain Ultralytics that gives the same mAP; absent too where it has other classes than the data."""


class NetworkFigures(MeasuredFigures):
    """What a network finds and costs in PyTorch."""

    model: str
    """Its architecture, or the name of its weights."""
    num_parameters: int
    """Its weights."""
    gflops: float
    """Billions of operations for one image; 0 where they cannot be counted, as in ONNX."""
    size_bytes: int
    """Of its file."""


class RoleFigures(NetworkFigures):
    """A network as it ends, in its role."""

    imgsz: int | None = None
    """Side of the images that it sees."""
    epochs: int | None
    """For which the job trained it; null where it did not."""
    best_epoch: int | None = Field(default=None, exclude_if=absent)
    """The epoch whose weights these are, the best on ``val``; 0 is the start; absent where the job did not train it."""
    last: Scores | None = Field(default=None, exclude_if=absent)
    """Of its last epoch, on the same images; absent on a ``test`` split, which has chosen no epoch."""


class TrainedFigures(RoleFigures):
    """A student or control as it ends."""

    map50: float
    """mAP at an IoU of 0.50."""
    map: float
    """mAP50-95."""


class Roles(StoredModel):
    """Teacher, student and control, measured by the same code on the same images."""

    teacher: RoleFigures | None = Field(default=None, exclude_if=absent)
    """The network that taught; absent where it could not be measured."""
    student: TrainedFigures
    """The network that learnt, and is published."""
    control: TrainedFigures | None = Field(default=None, exclude_if=absent)
    """The student's undistilled twin; absent where none was trained."""
    start: RoleFigures | None = Field(default=None, exclude_if=absent)
    """The weights from which student and control started, random ones too; absent in results from before."""

    def rows(self) -> Sequence[tuple[str, RoleFigures]]:
        """Return the rows of a table: the roles, and where student and control started."""
        found = (
            (Role.TEACHER, self.teacher), ("start", self.start), (Role.CONTROL, self.control),
            (Role.STUDENT, self.student),
        )  # fmt: skip
        return [(str(name), figures) for name, figures in found if figures is not None]

    def known(self) -> Sequence[tuple[Role, RoleFigures]]:
        """Return those that there are, in the order in which they are shown."""
        found = ((Role.TEACHER, self.teacher), (Role.CONTROL, self.control), (Role.STUDENT, self.student))
        return [(role, figures) for role, figures in found if figures is not None]


class FurtherTeacherFigures(StoredModel):
    """One more teacher of the ensemble."""

    model: str
    """The name of its weights."""
    weight: float
    """Of its word among the teachers."""
    imgsz: int
    """Side of the images that it sees."""
    map50: float | None
    """Null, like ``map``, where it knows none of the data's classes."""
    map: float | None
    """mAP50-95."""


class FoundBatch(StoredModel):
    """The batch that ``training.batch: auto`` stands for in one job, and how it was found."""

    batch: int
    """Images of a batch, over all GPUs."""
    reason: str
    """How it was found, in words."""
    peak_bytes: dict[str, int] = Field(default_factory=dict)
    """What a step of the largest arm takes of one GPU, by its images; empty on a CPU."""
    free_bytes: int | None = None
    """What was free on the GPU; null on a CPU."""


class StepMemory(StoredModel):
    """What a step of the largest training takes of a GPU, found before anything was trained."""

    step_bytes: int
    """Of each GPU."""
    free_bytes: int
    """What was free of it."""
    measured: bool
    """Whether a step was tried on the GPU, which is done where the estimate is near what is free."""

    @property
    def is_tight(self) -> bool:
        """Whether others on the GPU, or a batch with more objects, may make it too much."""
        return self.step_bytes > 0.9 * self.free_bytes

    def sentence(self, batch: int) -> str:
        """Return the figures in one line for people."""
        how = "takes" if self.measured else "will take about"
        return (
            f"a step with batch {batch} {how} {self.step_bytes / 2**30:.1f} GiB of the {self.free_bytes / 2**30:.1f} "
            f"that are free on the GPU"
        )


class GapClosed(StoredModel):
    """The gain as a share of teacher less control; null where that may not be told of the metric.

    It takes several seeds, an interval without zero, and a teacher clearly better than the control.
    """

    map50: float | None
    """In mAP at an IoU of 0.50."""
    map: float | None
    """In mAP50-95."""


class SeedScores(StoredModel):
    """Student and control of one seed."""

    seed: int
    """Of initial weights and batches."""
    student: Scores
    """The distilled network."""
    control: Scores | None = Field(default=None, exclude_if=absent)
    """Absent where none was trained."""
    student_last: Scores | None = Field(default=None, exclude_if=absent)
    """The distilled network after its last epoch; absent on a ``test`` split."""
    control_last: Scores | None = Field(default=None, exclude_if=absent)
    """Its control after the last epoch."""


class Spread(StoredModel):
    """Mean and standard deviation (n - 1) over seeds."""

    mean: float
    """Over seeds."""
    deviation: float
    """Standard deviation (n - 1)."""


class Difference(Spread):
    """Student less control over pairs of one seed, by Student's paired t."""

    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    level: float
    """Of the interval from ``low`` to ``high``."""
    p_value: float
    """Share of repetitions in which a difference at least as large would be seen if there were no effect."""


class SeedStatistics(StoredModel):
    """What can be said of one metric over several seeds."""

    num_seeds: int
    """Pairs of student and control."""
    student: Spread
    """The distilled networks."""
    control: Spread
    """Their undistilled twins."""
    difference: Difference
    """Of the pairs."""


class MetricStatistics(StoredModel):
    """The same by metric; null for less than two pairs."""

    map50: SeedStatistics | None
    """Of mAP at an IoU of 0.50."""
    map: SeedStatistics | None
    """Of mAP50-95."""


class SeedFigures(StoredModel):
    """What each seed gave, and what can be said of them all."""

    runs: tuple[SeedScores, ...]
    """One for each seed; the published student's is the first."""
    statistics: MetricStatistics
    """Over all of them."""
