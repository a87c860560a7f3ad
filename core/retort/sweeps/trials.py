"""What a search knows of the trials that there have been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retort.states import JobState, TrialState


@dataclass(frozen=True, slots=True)
class Trial:
    """One point, and what has come of it."""

    number: int
    """Counted from 1."""
    parameters: Mapping[str, Any]
    outcome: TrialState | None
    """None while it is under way."""
    value: float | None = None
    """The best that its objective has reached."""
    job_id: str | None = None
    """None where the combination was no valid spec."""
    job_state: JobState | None = None
    pruned: bool = False
    """It has been told to stop because others are better."""
    reason: str | None = None
    ended_at: float | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    """The objective by epoch."""
    num_epochs: int = 0
    """How many epochs its spec asks for."""
