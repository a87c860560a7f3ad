"""The states of a job and the one table of legal transitions."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Coarse and fixed; the fine position inside *running* is the job's stage."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    AWAITING_REVIEW = "awaiting_review"
    """People have to look at its pseudo-labels; no worker holds it."""
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """It waited for longer than its spec allows, and never started."""


class AttemptState(StrEnum):
    """How one try on one worker stands or ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    """The worker stopped renewing its lease."""
    HANDED_BACK = "handed_back"
    """The worker returned the job without using up a retry: it drained, or the job was paused or waits for people."""


class SweepState(StrEnum):
    """Where a sweep stands."""

    RUNNING = "running"
    CANCELLING = "cancelling"
    """Some of its jobs still run; no more are made."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class UploadState(StrEnum):
    """Where an upload stands."""

    OPEN = "open"
    """Some of its bytes are still to come."""
    COMPLETE = "complete"
    """All are there, and have the digest that was announced."""
    FAILED = "failed"
    """It could not be fetched from where it was to come from."""


class DatasetState(StrEnum):
    """Where a dataset that was brought stands."""

    UPLOADING = "uploading"
    """Its upload is still open."""
    CHECKING = "checking"
    """A worker looks through it, or will."""
    READY = "ready"
    """Specs may name it."""
    REFUSED = "refused"
    """It cannot be used; its findings say why."""


class TrialState(StrEnum):
    """Where a trial stands; its job's own state is finer."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PRUNED = "pruned"
    """Cancelled because others were better at the same epoch."""
    CANCELLED = "cancelled"


LIVE_SWEEPS = frozenset({SweepState.RUNNING, SweepState.CANCELLING})
"""States of sweeps that workers look after."""

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.RUNNING: frozenset(
        {
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.CANCELLING,
            JobState.PAUSING,
            JobState.QUEUED,
            JobState.AWAITING_REVIEW,
        }
    ),
    # A run that finishes or fails for good before it can stop has ended; resuming takes the wish back.
    JobState.PAUSING: frozenset(
        {JobState.PAUSED, JobState.RUNNING, JobState.CANCELLING, JobState.SUCCEEDED, JobState.FAILED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.AWAITING_REVIEW: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    # A run that finishes while it is being cancelled keeps its result: the race is legal.
    JobState.CANCELLING: frozenset({JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}

TERMINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)
ACTIVE = frozenset({JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING})
"""States in which a worker holds the lease."""


SOURCES = {
    target: frozenset(state for state, following in TRANSITIONS.items() if target in following) for target in JobState
}
"""States from which each state may be entered; SQL predicates are built from this."""


def diagram() -> str:
    """Return the transitions as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.QUEUED}"]
    for state, following in TRANSITIONS.items():
        lines += [f"    {state} --> {target}" for target in JobState if target in following]
    lines += [f"    {state} --> [*]" for state in JobState if state in TERMINAL]
    return "\n".join(lines)
