"""The states of a job and the one table of legal transitions."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Coarse and fixed; the fine position inside *running* is the job's stage."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AttemptState(StrEnum):
    """How one try on one worker stands or ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    """The worker stopped renewing its lease."""
    HANDED_BACK = "handed_back"
    """A draining worker returned the job without using up a retry."""


TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLING, JobState.QUEUED}),
    # A run that finishes while it is being cancelled keeps its result: the race is legal.
    JobState.CANCELLING: frozenset({JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

TERMINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)
ACTIVE = frozenset({JobState.RUNNING, JobState.CANCELLING})
"""States in which a worker holds the lease."""


def sources(target: JobState) -> frozenset[JobState]:
    """States from which *target* may be entered; SQL predicates are built from this."""
    return frozenset(state for state, following in TRANSITIONS.items() if target in following)


def diagram() -> str:
    """Return the table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.QUEUED}"]
    for state, following in TRANSITIONS.items():
        lines += [f"    {state} --> {target}" for target in JobState if target in following]
    lines += [f"    {state} --> [*]" for state in JobState if state in TERMINAL]
    return "\n".join(lines)
