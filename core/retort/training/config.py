"""Define the configuration, callbacks and result of one training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from retort.constants import VALIDATION_BATCH, Role
from retort.spec import DistillationSpec, TrainingSpec
from retort.spec.hardware import Optimisation

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ExtraTeacher:
    """A teacher beside the first."""

    weights: Path
    weight: float
    imgsz: int | None
    """Side of its input; None is the student's."""
    as_boxes: bool = False
    """Whether a YOLO teaches by its boxes alone."""


Verdict = Literal["healthy", "warning", "critical"]
StoppedBy = Literal["patience", "time"]
"""Fields of the spec that can end a training before its last epoch."""


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """A rule's verdict with its grounds."""

    rule: str
    verdict: Verdict
    epoch: int
    message: str
    """What was measured."""
    cause: str
    advice: str
    values: dict[str, float | None]


@dataclass(frozen=True)
class UnlabelledConfig:
    """Images without labels, for the distillation terms."""

    folder: Path
    """Its path ends in images/<name>, with empty label files in labels/<name>."""
    ratio: float
    """For each labelled image of a step."""
    digest: str = ""
    """Of the images' names and content, as intake took it."""


@dataclass(frozen=True)
class TeacherConfig:
    """Configuration of the teachers beyond the first one's weights."""

    weight: float = 1.0
    """The first teacher's say."""
    imgsz: int | None = None
    """Side of the first teacher's input; None is the student's."""
    as_boxes: bool = False
    """Whether the first teacher, a YOLO, teaches by its boxes alone."""
    further: tuple[ExtraTeacher, ...] = ()
    unlabelled: UnlabelledConfig | None = None
    ema: bool = False
    """The only teacher is the average of the student's own weights, and there is no file of weights."""
    ema_classes: tuple[str, ...] | None = None
    """Names of the classes that this average counts as knowing; None for all."""
    cache: Path | None = None
    """What the first teacher has said of all images ahead of time; it is not asked again."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """The last part of a schedule, repeated by an extended training.

    The schedule is as long as the *first* training was, or as the extension where that is longer; so that what is added
    has the values that the last epochs of such a schedule have.
    """

    begins: int
    """Whole epochs before it."""
    ends: int
    """Epochs in all."""
    first: int
    """Epochs of the first training."""

    @property
    def length(self) -> int:
        """Epochs of the schedule."""
        return max(self.first, self.ends - self.begins)

    def place(self, epoch: float) -> float:
        """Return where in the schedule *epoch* lies; both count from 0."""
        return self.length - (self.ends - epoch)


@dataclass(frozen=True, slots=True)
class MixtureConfig:
    """How labelled and pseudo-labelled images share the batches."""

    share: float = 0.0
    """Of a batch that is labelled at least; never less than among all images."""
    burn_in: int = 0
    """Epochs on labelled images alone, at the beginning."""
    ramp: int = 0
    """Epochs after that in which the share of pseudo-labelled images grows."""


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of one training, distilled or plain."""

    role: Role
    model: str
    """Architecture by name, such as yolov8n."""
    weights: Path | None
    """Start from these; None starts from random by the seed."""
    data_yaml: Path
    """With absolute paths; its labels' caches are written and read beside the labels."""
    epochs: int
    training: TrainingSpec
    folder: Path
    """Receives everything that is written."""
    device: str
    """``cpu``, or the number of a CUDA device."""
    teaching: TeacherConfig = TeacherConfig()
    loader_workers: int | None = None
    """Processes that load images, at most; None leaves it to the machine."""
    definition: Path | None = None
    """A file that describes the network, in place of the description that *model* names."""
    from_weights: bool = False
    """Build the network as its weights describe it."""
    val_batch: int = VALIDATION_BATCH
    """Images of a batch in validation."""
    watched: bool = True
    """Check that the distillation teaches, and judge its health; not where there is nothing to teach."""
    terms: bool = True
    """Compute the terms of the distillation; without them a teacher assigns labels, and does nothing else."""
    class_balance: float = 0.0
    """How far rare classes are raised in the task's class loss, as ``class_balance`` of a loss raises them in it."""
    samples: int | None = None
    """Samples of an epoch, where images are repeated to make up as many; None is one of each image."""
    mixture: MixtureConfig | None = None
    """Where pseudo-labelled images do not simply stand among the others."""
    extended: tuple[int, ...] = ()
    """Epochs after which the trainings ended that this one goes on from, the first one's first; none begins anew."""

    @property
    def cycle(self) -> Cycle | None:
        """The schedule of what an extension adds; None where nothing is extended."""
        return Cycle(self.extended[-1], self.epochs, self.extended[0]) if self.extended else None

    def before(self) -> TrainConfig:
        """Return the plan of the training that this one extends."""
        ends = self.extended[-1]
        training = self.training.model_copy(update={"epochs": ends})
        return replace(self, epochs=ends, training=training, extended=self.extended[:-1])


class TrainCallback:
    """Callbacks of a training; the defaults do nothing."""

    def metric(self, step: int, values: dict[str, float | None]) -> None:
        """Take the values of epoch *step* (from 1; 0 before training)."""

    def trained(self, num_images: int, num_batches: int, seconds: float) -> None:
        """Take on how many images and batches an epoch has trained, and how long.

        It comes after the epoch's last batch, before the epoch is measured.
        """

    def checkpoint(self, epoch: int, path: Path, metrics: dict[str, float | None]) -> None:
        """Handle a complete published checkpoint."""

    def saved(self, epoch: int) -> None:
        """Handle the saved state after *epoch* whole epochs."""

    def alive(self, section: str) -> None:
        """Handle a heartbeat of *section* (``protocol.workdir.SECTIONS``), at every batch."""

    def progress(self, fraction: float) -> None:
        """Take the finished part of this training, 0..1."""

    def log(self, message: str, level: str = "info", **data: Any) -> None:
        """Take a message that a person may want to read."""

    def health(self, finding: RuleFinding) -> None:
        """Take a verdict on the distillation that has changed."""

    def heatmaps(self, epoch: int, path: Path, size: tuple[int, int]) -> None:
        """Take the picture of where student and teacher differ.

        It shows them after *epoch*, has a *size* (width, height), and is replaced by a later one.
        """

    def optimised(self, found: tuple[Optimisation, ...]) -> None:
        """Take what speeds the training up, known after its first batch."""

    def stop_requested(self) -> bool:
        """Return True to stop; asked at every batch."""
        return False

    def finish_requested(self) -> bool:
        """Return True to end the training and keep its best network.

        It is asked at every batch.
        """
        return False


PREFETCH = 4
"""Training batches that each loader process has ready at most."""


@dataclass(frozen=True, slots=True)
class Loading:
    """How training batches are loaded."""

    workers: int
    prefetch: int = PREFETCH
    """Batches that each process has ready."""
    pinned: bool = False
    """Whether they are page-locked, from where a GPU copies them without the host."""


class Trainer(Protocol):
    """Interface of the trainer that the parts of a training use."""

    plan: TrainConfig
    callback: TrainCallback
    distillation: DistillationSpec | None
    start_metrics: dict[str, float | None]
    """Of the network before its first epoch; empty on other ranks than the first."""
    teacher_metrics: dict[str, float | None]
    args: Any
    """Upstream's arguments."""
    data: dict[str, Any]
    """Upstream's description of the data set."""
    device: torch.device
    model: Any
    """What is trained, as the ranks have wrapped it."""
    ema: Any
    optimizer: Any
    tloss: Any
    """Means of the epoch's losses, by name."""
    train_loader: Any
    test_loader: Any
    loading: Loading
    """How its batches are loaded."""
    batch_size: int
    """Of all ranks together."""
    world_size: int
    epoch: int
    """Counted from 0."""
    epochs: int

    def build_dataset(self, img_path: str, mode: str, batch: int | None) -> Any:
        """Build upstream's data set."""

    def poll(self, _: Any = None) -> None:
        """Send a heartbeat; stop when requested."""


@dataclass(frozen=True)
class TrainResult:
    """Result of a finished training."""

    weights: Path
    """The best epoch's weights in published form."""
    metrics: dict[str, float | None]
    """All metrics of the best epoch."""
    epochs: int
    best_epoch: int
    """Counted from 1, 0 is the start; by mAP50-95 on the validation set, the later of two equals."""
    stopped_by: StoppedBy | None = None
    """Which limit ended the training before its last epoch."""
    last: Path | None = None
    """The last epoch's weights in published form; None where another machine has kept them."""
    duration_s: float | None = None
    """Seconds of all its epochs, over all attempts."""
