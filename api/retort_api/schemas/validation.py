"""Show the validation of a spec, with the estimate of its time and memory."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from retort_api.schemas.jobs import ResponseModel, documented_as


class TimeEstimate(ResponseModel):
    """How long the job would run on one kind of device."""

    device: str
    """`cpu`, or the GPU's product name, as in the results of recorded jobs."""
    seconds: float
    """Median of what the recorded jobs make of it."""
    low: float
    high: float
    """The smallest and the largest that one of them makes of it."""
    sure: Literal["alike", "scaled", "one"]
    """`alike`: several jobs with the same data and as many epochs; `scaled`: several that are scaled by epochs;
    `one`: a single job, which may have been an exception."""
    num_jobs: int
    """So many recorded jobs it comes from."""
    cost: float | None
    """At the operator's price for an hour of a GPU; null without one, and on a CPU."""


class MemoryEstimate(ResponseModel):
    """What a training step would take of each GPU."""

    step_bytes: int
    """The most that one of the recorded jobs took."""
    num_jobs: int


class Estimate(ResponseModel):
    """What recorded jobs of the same student, image size and data say about this one."""

    time: tuple[TimeEstimate, ...]
    """By device; empty where nothing is known."""
    memory: MemoryEstimate | None
    """From jobs with the same batch as well; null where nothing is known."""
    currency: str | None
    """Of each cost."""
    source: str
    """In words: from which jobs, or that there are none."""


class UsedUp(ResponseModel):
    """A quota that would refuse the job at this moment."""

    quota: str
    """Of what, such as `queued jobs`."""
    detail: str
    """How much is used of how much."""
    hint: str | None
    """When there is room again."""
    retry_after_s: int
    """Seconds until another try is worth it."""


class Validation(ResponseModel):
    """A spec that the service would accept."""

    valid: Literal[True] = True
    """Of the spec itself, whether or not a quota has room for it now."""
    used_up: tuple[UsedUp, ...]
    """Quotas for which a submission would be refused with 429 `quota_exceeded` now; empty where there is room."""
    warnings: tuple[str, ...]
    spec_digest: str
    """SHA-256 of the spec's canonical JSON, in hex."""
    estimate: Estimate
    spec: Annotated[dict[str, Any], documented_as("JobSpec", "AdviceSpec", "EvaluateSpec")]
    """With its presets written out."""
