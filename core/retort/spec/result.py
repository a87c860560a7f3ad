"""What a job found out: the one document that it ends with, from the stage that writes it to whoever reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, JsonValue, Tag, TypeAdapter, ValidationError

from retort.review.figures import LabelFigures, ReviewFigures, Share
from retort.spec.advised import AdviceResult
from retort.spec.exported import AnyExport
from retort.spec.figures import FurtherTeacherFigures, GapClosed, Roles, Scores, SeedFigures
from retort.variants import Kept


class TrainingFigures(Kept):
    """For how long, and in which batches, the student was trained."""

    epochs: int
    """Fewer than ``planned_epochs`` where the job was finished early."""
    planned_epochs: int
    batch: int


class DataFigures(Kept):
    """The data set."""

    names: tuple[str, ...]
    """Its classes in the order of their ids."""
    num_train: int
    num_val: int
    num_shared: int
    """Validation images that are also training images."""
    digest: str


class SplitFigures(Kept):
    """What one split holds."""

    num_images: int
    num_backgrounds: int
    """Images without a box."""
    boxes: dict[str, int]
    """By class."""


class DataFinding(Kept):
    """One kind of mistake in the data, and where it was seen."""

    severity: Literal["error", "warning"]
    code: str
    message: str
    hint: str
    number: int
    """How often."""
    places: tuple[str, ...]
    """The first few."""


class DataQuality(Kept):
    """What the data set is like, and what is doubtful in it."""

    splits: dict[str, SplitFigures]
    findings: tuple[DataFinding, ...]


class UnlabelledUse(Kept):
    """Images without labels that the student, but not its control, has seen."""

    num_images: int
    num_shared: int
    """Those that are also validation images."""
    digest: str
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


class JobResult(Kept):
    """What a distillation found out: who reached what, and what distillation bought."""

    roles: Roles
    ensemble: tuple[FurtherTeacherFigures, ...] = ()
    """Further teachers."""
    training: TrainingFigures | None = None
    """Null in results from before it was told."""
    control_dropped: str | None = None
    """Why no control was trained although the spec asks for one."""
    gain: Scores | None
    """Student less control; null where no control was trained."""
    gap_closed: GapClosed | None
    """Null where no control was trained."""
    seeds: SeedFigures | None = None
    """Null where the job was not repeated with other seeds."""
    dataset: DataFigures
    data_quality: DataQuality | None = None
    """Null where the data set was not looked through."""
    unlabelled: UnlabelledUse | None = None
    """Null where the spec names none."""
    pseudo_labels: PseudoLabelUse | None = None
    """Null where the spec asks for none."""
    spec_digest: str
    """SHA-256 of the spec's canonical JSON, in hex."""
    device: str
    versions: dict[str, str]
    """Of the software that shapes a result, by package."""
    exports: tuple[AnyExport, ...] = ()
    """The student's other forms, in the order of the spec."""
    duration_s: float
    """Seconds that all stages took, each in the attempt that finished it."""


def _task(value: Any) -> str:
    advised = value.get("task") == "advise" if isinstance(value, Mapping) else isinstance(value, AdviceResult)
    return "advise" if advised else "distill"


AnyResult = Annotated[
    Annotated[JobResult, Tag("distill")] | Annotated[AdviceResult, Tag("advise")], Discriminator(_task)
]
"""Only advice has ``task``."""
Result = JobResult | AdviceResult
"""The same, as it is passed on."""

_adapter: TypeAdapter[Result] = TypeAdapter(AnyResult)


def parse_result(stored: Any) -> Result:
    """Read what a job has found out; raises pydantic.ValidationError when it is no result."""
    return _adapter.validate_python(stored)


def readable_result(stored: Any) -> Result | None:
    """Return the same; None where there is none, or nothing that can be read as one."""
    try:
        return None if stored is None else parse_result(stored)
    except ValidationError:
        return None


class Verdict(Kept):
    """One sentence that sums up, and others that put it in its place."""

    kind: Literal["gain", "none", "loss", "unknown"]
    sentence: str
    caveats: tuple[str, ...]


class StudentOrigin(Kept):
    """The file that a manifest goes with."""

    model: str
    file: str
    sha256: str


class TeacherOrigin(Kept):
    """The weights that taught."""

    model: str
    sha256: str


class FurtherTeacherOrigin(FurtherTeacherFigures):
    """The weights of one more teacher."""

    sha256: str


class DataOrigin(Kept):
    """The data that was learnt from."""

    digest: str
    num_train: int
    num_val: int
    known_as: str | None
    """Its name among the known data sets."""
    archives: dict[str, str]
    """SHA-256 of the files that it was made from, where it was fetched."""


class PseudoLabelOrigin(Kept):
    """The labels of the teacher that were learnt from."""

    digest: str
    num_trained: int
    num_boxes: int
    confidence: dict[str, float]
    ignore_from: float | None
    reviewed_precision: Share | None
    """What people found right; null where nobody looked."""


class Manifest(Kept):
    """Where a student comes from, byte by byte: ``manifest.json``."""

    name: str
    """Of the job."""
    spec_digest: str
    student: StudentOrigin
    training: TrainingFigures
    starting_weights: dict[str, str]
    """SHA-256 by name."""
    teacher: TeacherOrigin
    ensemble: tuple[FurtherTeacherOrigin, ...]
    unlabelled: UnlabelledUse | None
    pseudo_labels: PseudoLabelOrigin | None
    dataset: DataOrigin
    classes: tuple[str, ...]
    seeds: tuple[int, ...]
    device: str
    versions: dict[str, str]
    metrics: dict[str, dict[str, float | None]]
    """``val/mAP50`` and ``val/mAP50-95`` by role."""
    license: str
    """Of the student."""
    created_at: str
    """RFC 3339."""


class Curve(Kept):
    """The values of one metric; both lists are of the same length."""

    step: tuple[int, ...]
    """Epochs, ascending."""
    value: tuple[float | None, ...]


class HealthFinding(Kept):
    """One verdict of a rule on the distillation's health."""

    rule: str
    verdict: Literal["healthy", "warning", "critical"]
    epoch: int
    message: str
    cause: str
    advice: str
    values: dict[str, float | None] = Field(default_factory=dict)


class Report(Kept):
    """The report for machines: ``report.json``."""

    name: str
    verdict: Verdict
    result: JobResult
    health: tuple[HealthFinding, ...]
    curves: dict[str, dict[str, Curve]]
    """By role and name of the metric."""
    manifest: Manifest
    spec: dict[str, JsonValue]
    """As resolved."""
