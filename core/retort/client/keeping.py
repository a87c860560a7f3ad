"""Describe the calls that delete, restore, pin, count and prune."""

from __future__ import annotations

from retort.client.answers import Artifact, Job, ProjectUsage, Pruned
from retort.client.calls import Call
from retort.client.job_calls import changed, job_path
from retort.client.operations import call


class KeepingCalls:
    """Calls about the trash, and about usage."""

    @call
    def delete(self, job_id: str) -> Call[None]:
        """Move a job that has ended to the trash, with all that it published."""
        return Call("DELETE", job_path(job_id), reading="nothing")

    @call
    def restore(self, job_id: str) -> Call[Job]:
        """Take a job out of the trash, and return it."""
        return Call("POST", job_path(job_id, "restore"))

    @call
    def keep(self, job_id: str, *, keep: bool = True) -> Call[Job]:
        """Pin a job, so that retention passes it by, or unpin it; return it."""
        return changed(job_id, keep=keep)

    @call
    def delete_artifact(self, job_id: str, name: str) -> Call[None]:
        """Move one artifact of an ended job to the trash."""
        return Call("DELETE", job_path(job_id, f"artifacts/{name}"), reading="nothing")

    @call
    def restore_artifact(self, job_id: str, name: str) -> Call[Artifact]:
        """Take one artifact out of the trash, and return it."""
        return Call("POST", job_path(job_id, f"artifacts/{name}/restore"))

    @call
    def usage(self) -> Call[ProjectUsage]:
        """Return bytes by owner and kind, jobs by state, and GPU seconds by month."""
        return Call("GET", "/v1/usage")

    @call
    def prune(self, *, dry_run: bool = False) -> Call[Pruned]:
        """Apply retention now for some seconds, or say what would go."""
        return Call("POST", "/v1/prune", {"params": {"dry_run": dry_run}})
