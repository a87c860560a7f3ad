"""Define the advice spec: student, candidate teachers, data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from retort.schema import InputModel, distinct
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
    imgsz: Side = 640
    """Side of the square input in pixels, for all of them."""
    batch: int = Field(default=16, ge=2, le=1024)
    """Images of the step that is timed."""
    student_epochs: Annotated[int | None, Field(ge=1, le=10_000)] = None
    """Train the student without a teacher for so many epochs first, which tells what a teacher could add to it; null
    trains nothing. As many as the job is to have make the bound a close one; with fewer it is too high."""
    resources: AdviceResources = Field(default_factory=AdviceResources)
    """Limits in time."""
