"""The section of a job spec that says which trackers follow the run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from retort.variants import Written

ProjectName = Annotated[str, Field(pattern=r"^[^/\\#?%:\x00-\x1f\x7f]{1,128}$")]
ExperimentName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,256}$")]


class WandbSpec(Written):
    """A run in Weights & Biases; whose account it is, is the worker's business."""

    project: ProjectName
    """Where the run is shown; made where there is none."""
    mode: Literal["offline", "online"] = "offline"
    """``offline`` writes a folder on the worker, to be sent by ``wandb sync``; ``online`` sends at once."""
    entity: ProjectName | None = None
    """User or team that the project belongs to; null takes the account's own."""
    artifacts: bool = False
    """Hand over the report and the student's weights, too."""


class MlflowSpec(Written):
    """A run in MLflow; where the server is, the operator says."""

    experiment: ExperimentName
    """Where the run is shown; made where there is none."""
    artifacts: bool = False
    """Hand over the report and the student's weights, too."""


class TrackingSpec(Written):
    """Who is told of parameters, curves and results beside the service itself; none of them can fail the run."""

    tensorboard: bool = True
    """Offer event files for TensorBoard among the artifacts."""
    wandb: WandbSpec | None = None
    """Also keep the run in Weights & Biases."""
    mlflow: MlflowSpec | None = None
    """Also keep the run in MLflow."""
