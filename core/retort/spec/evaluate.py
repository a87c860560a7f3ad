"""Define the evaluation spec: networks to be measured, and data."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from retort.exports import AnyExport
from retort.schema import InputModel, distinct, field_error
from retort.spec.advise import Adapters, AdviceResources, insist_on_names
from retort.spec.job import DataSource
from retort.spec.networks import WeightsFile
from retort.spec.training import Side


class EvaluateSpec(InputModel):
    """A job that measures trained networks, and compares them where there are several."""

    task: Literal["evaluate"] = "evaluate"
    """To be written where other documents may stand, too."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] = "evaluation"
    """Up to 63 letters, digits, dots, underscores and hyphens; it need not be unique."""
    data: DataSource
    """The data set on whose images all are measured: its ``test`` split, or else ``val``."""
    networks: Annotated[
        tuple[WeightsFile, ...], Field(strict=False, min_length=1, max_length=16), AfterValidator(distinct)
    ]
    """Weights files or registered models; further ones are compared with the first."""
    adapters: Adapters
    """How networks that are no YOLO are to be read, by their names in ``networks``; see ``teacher.adapter``."""
    imgsz: Side | None = None
    """Side of the square input in pixels, for all of them; null takes what each was trained at, as its file says."""
    exports: Annotated[tuple[AnyExport, ...], Field(strict=False)] = Field(default=(), max_length=16)
    """Files to make from the network, which has to be a single one, each measured after it was made."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Of the choice of images, for the interval of a difference and for the ranges of INT8."""
    resources: AdviceResources = Field(default_factory=AdviceResources)
    """Limits in time."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        insist_on_names(self.adapters, self.networks, "networks")
        if self.exports and len(self.networks) > 1:
            raise field_error("are of one network, and several are named", at="exports", hint="one at a time")
        for index, export in enumerate(self.exports):
            if getattr(export, "aware_epochs", 0):
                at, hint = f"exports.{index}.aware_epochs", "0 here; a job that distils has it"
                raise field_error("is a training, and nothing is trained", at=at, hint=hint)
        return self
