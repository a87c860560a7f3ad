"""What the API says: the JSON of jobs, sweeps, events, metrics, artifacts and models; no field is ever left out."""

from __future__ import annotations

from retort_api.schemas.base import Out, job_path, sweep_path
from retort_api.schemas.jobs import (
    Artifact,
    ArtifactLinks,
    Artifacts,
    Attempt,
    Attempts,
    Best,
    Change,
    Event,
    EventPage,
    Failure,
    Job,
    JobLinks,
    JobPage,
    JobSummary,
    Metrics,
    Point,
    Saved,
    Series,
    Transition,
)
from retort_api.schemas.models import Model, ModelLinks, ModelPage, Models
from retort_api.schemas.service import Check, Liveness, Readiness, Recipe, Recipes
from retort_api.schemas.sweeps import BestTrial, Sweep, SweepLinks, SweepPage, SweepSummary, Trial

__all__ = [
    "Artifact",
    "ArtifactLinks",
    "Artifacts",
    "Attempt",
    "Attempts",
    "Best",
    "BestTrial",
    "Change",
    "Check",
    "Event",
    "EventPage",
    "Failure",
    "Job",
    "JobLinks",
    "JobPage",
    "JobSummary",
    "Liveness",
    "Metrics",
    "Model",
    "ModelLinks",
    "ModelPage",
    "Models",
    "Out",
    "Point",
    "Readiness",
    "Recipe",
    "Recipes",
    "Saved",
    "Series",
    "Sweep",
    "SweepLinks",
    "SweepPage",
    "SweepSummary",
    "Transition",
    "Trial",
    "job_path",
    "sweep_path",
]
