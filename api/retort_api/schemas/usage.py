"""Usage of projects, and the outcome of retention."""

from __future__ import annotations

from retort_api.schemas.jobs import ResponseModel


class StoredBytes(ResponseModel):
    """Bytes that an owner keeps of one kind."""

    project: str
    owner: str
    kind: str
    """Role of the artifacts, `models`, `datasets`, `uploads`, or `saved`: files from which jobs can go on."""
    number: int
    size_bytes: int
    """What two keep alike counts for both, though the store has it once."""
    deleted_bytes: int
    """Of these, in the trash."""


class Worked(ResponseModel):
    """Attempts of an owner's jobs that began in one month."""

    project: str
    owner: str
    month: str
    """In UTC, such as `2026-11`."""
    jobs: int
    attempts: int
    run_s: float
    gpu_s: float
    """Seconds times GPUs, of attempts on GPUs."""


class JobsOfOwner(ResponseModel):
    """An owner's jobs outside of the trash."""

    project: str
    owner: str
    states: dict[str, int]


class ProjectUsage(ResponseModel):
    """What is stored, what there is, and what was worked. Retention shortens what is counted."""

    stored: tuple[StoredBytes, ...]
    jobs: tuple[JobsOfOwner, ...]
    worked: tuple[Worked, ...]


class PruneShare(ResponseModel):
    """Number and bytes of one kind."""

    kind: str
    number: int
    size_bytes: int | None
    """That nothing else points to; null where it is not known."""


class Pruned(ResponseModel):
    """What retention has taken, or would take."""

    dry_run: bool
    shares: tuple[PruneShare, ...]
    freed_bytes: int
    """Given back in the store by this request."""
    waiting_keys: int
    """Files that nothing points to, whose grace period is not over."""
    waiting_bytes: int
    done: bool
    """Whether nothing is left to take now; else ask again."""
