"""Define the result document of a job."""

from __future__ import annotations

import logging
import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError

from retort.review.figures import LabelFigures, ReviewFigures
from retort.schema import StoredModel, absent
from retort.spec.advised import AdviceResult
from retort.spec.arms import ArmFigures
from retort.spec.evaluated import EvaluationResult
from retort.spec.exported import AnyExport
from retort.spec.figures import FoundBatch, FurtherTeacherFigures, GapClosed, Roles, Scores, SeedFigures, StepMemory
from retort.spec.hardware import DeviceFigures, Optimisation
from retort.spec.image_use import ImageUse
from retort.spec.outcome import ExtraOutcome
from retort.spec.pilot import PilotFigures
from retort.spec.verdict import Verdict
from retort.spec.worth import WorthCheck


class ExtendedTraining(StoredModel):
    """To what epochs were added: another job, which had ended."""

    job: str
    """The job that was extended."""
    epochs: int
    """Epochs that it had trained, student and control alike."""
    added: int
    """Epochs that were added, to student and control alike."""
    lr: float
    """Learning rate from which the added epochs began, as a part of the initial one."""
    schedule_epochs: int
    """Length of the schedule whose last epochs the added ones went through."""


class TrainingFigures(StoredModel):
    """For how long, and in which batches, the student was trained."""

    epochs: int
    """Fewer than ``planned_epochs`` where the job was finished early."""
    planned_epochs: int
    """As in the spec."""
    batch: int
    """Images of a batch; smaller than in the spec where memory ran out."""
    batch_found: FoundBatch | None = Field(default=None, exclude_if=absent)
    """How ``batch`` was found, where the spec says ``auto``."""
    memory: StepMemory | None = Field(default=None, exclude_if=absent)
    """What a step was found to take of the GPU, before anything was trained; absent on a CPU."""
    optimisations: tuple[Optimisation, ...] = Field(default=(), exclude_if=operator.not_)
    """What sped the student's training up, and what was to and did not; none of it changes a result.
    Absent where nothing was to, as on a CPU."""
    stopped_by: Literal["patience", "time"] | None = Field(default=None, exclude_if=absent)
    """The limit of the spec that ended the training before its last epoch; student and control each end by it."""
    extended: ExtendedTraining | None = Field(default=None, exclude_if=absent)
    """Where epochs were added to a job that had ended: this is not what as many epochs in one training would give."""


class DataFigures(StoredModel):
    """The data set."""

    names: tuple[str, ...]
    """Its classes in the order of their ids."""
    merged: tuple[str, ...] | None = Field(default=None, exclude_if=absent)
    """The classes in its labels, all of which ``training.single_cls`` makes one."""
    num_train: int
    """Training images."""
    num_val: int
    """Validation images."""
    num_shared: int
    """Validation images that are also training images."""
    digest: str
    """SHA-256 over its files."""
    images: dict[str, ImageUse] | None = Field(default=None, exclude_if=absent)
    """By split: how many images are there, how many are used, and which are not."""
    bits: int | None = Field(default=None, exclude_if=absent)
    """Bits that images of 16 bits were taken to fill."""


class SplitFigures(StoredModel):
    """What one split holds."""

    num_images: int
    """Images of the split."""
    num_backgrounds: int
    """Images without a box."""
    boxes: dict[str, int]
    """By class."""


class DataFinding(StoredModel):
    """One kind of mistake in the data, and where it was seen."""

    severity: Literal["error", "warning"]
    """An ``error`` would be refused or loses images; a ``warning`` may disappoint."""
    code: str
    """Stable: programs decide by this."""
    message: str
    """What is wrong or doubtful."""
    hint: str
    """What to do about it."""
    number: int
    """How often."""
    places: tuple[str, ...]
    """The first few."""


class DataQuality(StoredModel):
    """What the data set is like, and what is doubtful in it."""

    splits: dict[str, SplitFigures]
    """By name: ``train`` and ``val``."""
    findings: tuple[DataFinding, ...]
    """What is wrong or doubtful."""


class UnlabelledUse(StoredModel):
    """Images without labels that the student, but not its control, has seen."""

    num_images: int
    """Images that there were."""
    num_shared: int
    """Those that are also validation images."""
    digest: str
    """SHA-256 over the images."""
    ratio: float
    """Of them to labelled images in a batch."""


class PseudoLabelUse(LabelFigures):
    """What the teacher has labelled for student and control, and what people said of it."""

    num_trained: int
    """Images with such labels that student and control were trained on."""
    review: ReviewFigures | None = None
    """Where people looked at them."""
    digest: str
    """Of the images."""


class TaughtAhead(StoredModel):
    """What the teacher has said of the images ahead of time, which has taught the student in its place."""

    file: str
    """Name of the artifact that holds it."""
    digest: str
    """SHA-256 of what it comes from: the teacher's weights, its input, the views and the images."""
    num_images: int
    """Different images that it was asked about, those without labels among them."""
    views: tuple[str, ...]
    """How it has looked at each beside once as it is."""
    imgsz: int
    """Side of its square input in pixels."""
    num_boxes: int
    """Boxes in all, after those of all views were merged."""
    size_bytes: int
    """Of the file."""
    seconds: float
    """For which the teacher was asked, over all attempts; of the job that asked it, where another has."""
    reused: bool
    """Whether another job, or another attempt, had asked it before."""

    @property
    def sentence(self) -> str:
        """Say what taught the student, and what it took."""
        looked = f"once as it is and by {', '.join(self.views)}" if self.views else "once"
        took = "an earlier run had asked it" if self.reused else f"it took {self.seconds:,.0f} s"
        return (
            f"The student was taught ahead of time: the teacher looked at each of {self.num_images:,} images {looked}, "
            f"at {self.imgsz} pixels, and its {self.num_boxes:,} boxes with class probabilities, "
            f"{self.size_bytes / 1e3:,.0f} kB, taught in its place; {took}."
        )


class JobResult(StoredModel):
    """What a distillation found out: who reached what, and what distillation bought."""

    roles: Roles
    """What each network reached."""
    verdict: Verdict | None = None
    """What may be said of student against control, judged once; null in results from before it was kept."""
    worth: WorthCheck | None = Field(default=None, exclude_if=absent)
    """What the teacher could be worth at most, and whether it was more; absent with several teachers, where teacher or
    control were not measured or hardly learned anything, where nothing was distilled, and in results from before."""
    arms: tuple[ArmFigures, ...] = ()
    """Further controls, in the order of the spec; without those that were not trained, which ``extras`` tells of."""
    ensemble: tuple[FurtherTeacherFigures, ...] = ()
    """Further teachers."""
    pilot: PilotFigures | None = Field(default=None, exclude_if=absent)
    """What the pilot of the distillation has decided; absent where the spec asks for none."""
    training: TrainingFigures | None = None
    """Null in results from before it was told."""
    control_dropped: str | None = None
    """Why no control was trained although the spec asks for one."""
    gain: Scores | None
    """Student less control, the mean over seeds where there are several; null where no control was trained. What may be
    said of it is the verdict's."""
    gap_closed: GapClosed | None
    """Null where no control was trained."""
    seeds: SeedFigures | None = None
    """Null where the job was not repeated with other seeds."""
    dataset: DataFigures
    """On what was trained and measured."""
    data_quality: DataQuality | None = None
    """Null where the data set was not looked through."""
    unlabelled: UnlabelledUse | None = None
    """Null where the spec names none."""
    pseudo_labels: PseudoLabelUse | None = None
    """Null where the spec asks for none."""
    taught_ahead: TaughtAhead | None = Field(default=None, exclude_if=absent)
    """Absent where the teacher was asked in every step."""
    spec_digest: str
    """SHA-256 of the spec's canonical JSON, in hex."""
    device: str
    """``cpu``, or the GPU's product name."""
    hardware: DeviceFigures | None = Field(default=None, exclude_if=absent)
    """That device with driver and memory, and why it was taken; absent in results from before it was told."""
    versions: dict[str, str]
    """Of the software that shapes a result, by package."""
    exports: tuple[AnyExport, ...] = ()
    """The student's other forms, in the order of the spec."""
    extras: tuple[ExtraOutcome, ...] = ()
    """What became of all that the student does not depend on."""
    duration_s: float
    """Seconds that all stages took, each in the attempt that finished it."""


def _task(value: Any) -> str:
    task = value.get("task") if isinstance(value, Mapping) else getattr(value, "task", None)
    return task if task in {"advise", "evaluate"} else "distill"


AnyResult = Annotated[
    Annotated[JobResult, Tag("distill")]
    | Annotated[AdviceResult, Tag("advise")]
    | Annotated[EvaluationResult, Tag("evaluate")],
    Discriminator(_task),
]
"""Only a distillation has no ``task``."""
Result = JobResult | AdviceResult | EvaluationResult
"""The same, as it is passed on."""

_log = logging.getLogger(__name__)
_adapter: TypeAdapter[Result] = TypeAdapter(AnyResult)


def parse_result(stored: Any) -> Result:
    """Read what a job has found out; raises pydantic.ValidationError when it is no result."""
    return _adapter.validate_python(stored)


def readable_result(stored: Any) -> Result | None:
    """Return the parsed result; None without one, or when unreadable, which is logged."""
    try:
        return None if stored is None else parse_result(stored)
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        _log.warning("a stored result cannot be read: %d mistakes, the first at %r", error.error_count(), place)
        return None
