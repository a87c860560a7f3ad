"""Describe the calls that delete, restore, pin, count and prune."""

from __future__ import annotations

from pathlib import Path

from retort import chart_program
from retort.chart_program import ProgramReference
from retort.client.answers import Artifact, Job, ProjectUsage, Pruned
from retort.client.calls import Call, Local, Steps
from retort.client.job_calls import changed, job_path
from retort.client.operations import call, steps
from retort.client.transport import ClientError


class KeepingCalls:
    """Calls about the trash, about usage, and about whole pages."""

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

    @steps
    def complete_page(self, path: Path) -> Steps[None]:
        """Put the charts' program into a downloaded page that leaves it to the service.

        Raises:
            ClientError: the service has another program than the page names.

        """
        reference: ProgramReference | None = yield Local(lambda: chart_program.reference_in(path.read_bytes()))
        if reference is None:
            return
        content: bytes = yield Call("GET", f"/static/{reference.file_name}", reading="content")
        if not reference.fits(content):
            message = f"{reference.file_name} is not the program that {path.name} names"
            raise ClientError(message, code="digest_mismatch")
        yield Local(lambda: _complete(path, content))

    @call
    def page(self, job_id: str, name: str = "report.html") -> Call[bytes]:
        """Return a job's page with the charts' program inside."""
        return Call("GET", job_path(job_id, f"artifacts/{name}"), {"params": {"self_contained": True}}, "content")


def _complete(path: Path, program: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(chart_program.with_program(path.read_bytes(), program))
    part.replace(path)
