"""Define the checked inputs of a run, as it reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError

from retort.errors import TransientError
from retort.files import sha256_of
from retort.schema import FrozenModel
from retort.spec.hardware import DeviceFigures
from retort.spec.image_use import ImageUse

FILE = "inputs.json"
CALIBRATION = "calibration images"
"""Title of images that INT8 ranges are taken from."""


NamedBy = Literal["user", "worker", "default"]


class DatasetInfo(FrozenModel):
    """Facts about the checked dataset."""

    root: str
    names: tuple[str, ...]
    merged: tuple[str, ...] = ()
    """Names of the classes in its labels, where all of them count as one."""
    num_train: int
    num_val: int
    num_test: int = 0
    """Images of the split ``test``, which the overlay holds where there are any."""
    num_shared: int
    """Validation images whose bytes are also a training image."""
    digest: str
    notes: tuple[str, ...] = ()
    images: dict[str, ImageUse] = Field(default_factory=dict)
    """By split: how many images are there, and how many are used."""
    bits: int | None = None
    """Bits that images of 16 bits fill; null where there are none."""
    warnings: tuple[str, ...] = ()
    """What is probably wrong with names and labels."""
    known_as: str | None = None
    """Its name among the known data sets."""
    archives: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the files that it was made from, where it was fetched."""


class UnlabelledInfo(FrozenModel):
    """Facts about the checked images without labels."""

    root: str
    folder: Path
    """Absolute; links to the images, as the run reads them."""
    num_images: int
    num_shared: int
    """How many have the bytes of a validation or test image, and were left out."""
    digest: str
    notes: tuple[str, ...] = ()
    images: ImageUse | None = None
    """How many images are there, and how many are used."""


class PseudoLabelInfo(FrozenModel):
    """Facts about the checked images to pseudo-label."""

    root: str
    folder: Path
    """Absolute; links to the images in ``images``, and to the labels that there are for them in ``labels``."""
    files: dict[str, str]
    """Paths in *root* by the names of the links, without their endings."""
    num_labels: int
    images: ImageUse | None = None
    """How many images are there, and how many are used."""
    digest: str
    notes: tuple[str, ...] = ()


class Extension(FrozenModel):
    """The line of jobs to which a job adds epochs."""

    job: str
    """The job that is extended."""
    name: str
    """In the spec of the first job of the line, whose stages before the student count."""
    epochs: tuple[int, ...] = Field(min_length=1)
    """Epochs after which the trainings before have ended, the first one's first."""


class Adjustments(FrozenModel):
    """Differences between a run and its spec.

    Null leaves the spec's or machine's value.
    """

    batch: int | None = None
    """Instead of ``training.batch``: it did not fit into the GPU's memory."""
    halved: bool = False
    """Half of the batch that ``training.batch: auto`` has found: the whole did not fit."""
    loader_workers: int | None = None
    """Processes that load images: shared memory was too small for more."""
    extension: Extension | None = None
    """Student and control go on from the last state of another job's."""


AS_GIVEN = Adjustments()


class Bounds(FrozenModel):
    """Ceilings of what a spec or a file leaves to the run."""

    imgsz: int = 2048
    """Largest side at which a network is measured."""
    batch: int = 1024
    """Largest that ``training.batch: auto`` may find."""
    workspace_gib: float | None = None
    """Most memory that an engine may be built in; null is all of the GPU's."""


class Inputs(FrozenModel):
    """Inputs of a run beside its spec."""

    attempt: int
    device: Annotated[str, Field(pattern=r"^(cpu|[0-9]+)$")]
    """``cpu``, or the number of a GPU that the process can see."""
    device_by: NamedBy = "user"
    """Who has named it: a person, a worker that gives out its own, or nobody."""
    cpu_allowed: bool = True
    """Whether the operator lets the CPU stand in for a GPU, where the spec does not say."""
    no_gpu: str | None = None
    """Why the run is on the CPU although no person has named it."""
    hardware: DeviceFigures | None = None
    """The device that the run was given, once it has looked at it."""
    data_yaml: Path
    """Absolute; the description of the overlay."""
    weights: dict[str, Path]
    """Absolute, by the names that the spec uses; converted, so that nothing in them can be run."""
    sources: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the files that the weights were converted from, by the same names."""
    definitions: dict[str, Path] = Field(default_factory=dict)
    """Absolute: files that describe networks of one's own, by the names that the spec uses."""
    dataset: DatasetInfo
    unlabelled: UnlabelledInfo | None = None
    to_label: PseudoLabelInfo | None = None
    calibration: dict[str, UnlabelledInfo] = Field(default_factory=dict)
    """Images that INT8 ranges are taken from, by the paths that the spec uses."""
    decisions: str | None = None
    """SHA-256 of what people have decided about pseudo-labels; null where they have decided nothing."""
    adjustments: Adjustments = AS_GIVEN
    bounds: Bounds = Bounds()
    teacher_caches: Path | None = None
    """Absolute; folder in which runs leave each other what teachers have said ahead of time; null is none."""
    keep_last: bool = False
    """Whether the last state of student and control is kept, so that the job can be extended."""

    def weights_sha256(self, name: str) -> str:
        """Return the SHA-256 of the weights *name* as they were given."""
        return self.sources.get(name) or sha256_of(self.weights[name])

    @property
    def data_name(self) -> str:
        """Name of the data for a line of plain Ultralytics.

        A set that was fetched has no path that its user knows.
        """
        return "data.yaml" if self.dataset.known_as else str(Path(self.dataset.root) / "data.yaml")

    @classmethod
    def load(cls, workdir: Path) -> Self:
        """Read the inputs that ``prepare`` wrote into *workdir*.

        Raises:
            TransientError: it is not there, or not complete.

        """
        try:
            return cls.model_validate_json((workdir / FILE).read_bytes())
        except (OSError, ValidationError) as error:
            raise TransientError(f"{workdir / FILE} is missing or malformed", code="bad_workdir") from error
