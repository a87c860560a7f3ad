"""Define the advice spec: student, candidate teachers, data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from retort.schema import InputModel, distinct, field_error
from retort.spec.adapter import TeacherAdapter
from retort.spec.job import DataSource
from retort.spec.networks import StudentSpec, WeightsFile
from retort.spec.training import Side


class AdviceResources(InputModel):
    """What the measuring needs of the machine it runs on."""

    gpus: Literal[1] = 1
    """Candidates are measured one after the other, on one GPU or on the CPU."""
    max_runtime_s: float | None = Field(default=None, gt=0, le=31_536_000)
    """Fail the job once its attempts have run for so long in all."""
    max_queue_s: float | None = Field(default=None, gt=0, le=31_536_000)
    """Give the job up as expired when it has not started so long after it was queued."""


Adapters = Annotated[dict[WeightsFile, TeacherAdapter], Field(default_factory=dict, max_length=16)]


def insist_on_names(adapters: Mapping[str, TeacherAdapter], named: Sequence[str], field: str) -> None:
    """Refuse adapters of files that are not named.

    Raises:
        ValueError: one is.

    """
    for name in adapters:
        if name not in named:
            raise field_error(f"is none of {field}", at=f"adapters.{name}", hint=f"one of {', '.join(named)}")


class AdviceSpec(InputModel):
    """A job that measures candidate teachers and recommends one."""

    task: Literal["advise"] = "advise"
    """To be written where other documents may stand, too."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] = "advice"
    """Up to 63 letters, digits, dots, underscores and hyphens; it need not be unique."""
    data: DataSource
    """The data set on whose validation images all are measured."""
    student: StudentSpec = Field(default_factory=StudentSpec)
    """The network that is to be taught."""
    candidates: Annotated[
        tuple[WeightsFile, ...], Field(strict=False, min_length=1, max_length=16), AfterValidator(distinct)
    ]
    """Weights files or registered models that might teach."""
    adapters: Adapters
    """How candidates that are no YOLO are to be read, by their names in ``candidates``; see ``teacher.adapter``."""
    imgsz: Side = 640
    """Side of the square input in pixels, for all of them."""
    batch: int = Field(default=16, ge=2, le=1024)
    """Images of the step that is timed."""
    student_epochs: Annotated[int | None, Field(ge=1, le=10_000)] = None
    """Train the student without a teacher for so many epochs first, which tells what a teacher could add to it; null
    trains nothing. As many as the job is to have make the bound a close one; with fewer it is too high."""
    resources: AdviceResources = Field(default_factory=AdviceResources)
    """Limits in time."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        insist_on_names(self.adapters, self.candidates, "candidates")
        return self
