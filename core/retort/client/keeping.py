"""Calls that delete, restore, pin, count and prune."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retort import chart_program
from retort.client.calls import Json
from retort.client.transport import ClientError


class KeepingCalls:
    """Calls about the trash, about usage, and about whole pages."""

    _send: Callable[..., Any]
    _json: Callable[..., Json]

    def delete(self, job_id: str) -> None:
        """Move a job that has ended to the trash, with all that it published."""
        self._send("DELETE", f"/v1/jobs/{job_id}")

    def restore(self, job_id: str) -> Json:
        """Take a job out of the trash, and return it."""
        return self._json("POST", f"/v1/jobs/{job_id}/restore")

    def keep(self, job_id: str, *, keep: bool = True) -> Json:
        """Pin a job, so that retention passes it by, or unpin it; return it."""
        return self._json("PATCH", f"/v1/jobs/{job_id}", json={"keep": keep})

    def delete_sweep(self, sweep_id: str) -> None:
        """Move an ended sweep to the trash, with its jobs."""
        self._send("DELETE", f"/v1/sweeps/{sweep_id}")

    def restore_sweep(self, sweep_id: str) -> Json:
        """Take a sweep out of the trash with its jobs, and return it."""
        return self._json("POST", f"/v1/sweeps/{sweep_id}/restore")

    def delete_artifact(self, job_id: str, name: str) -> None:
        """Move one artifact of an ended job to the trash."""
        self._send("DELETE", f"/v1/jobs/{job_id}/artifacts/{name}")

    def restore_artifact(self, job_id: str, name: str) -> Json:
        """Take one artifact out of the trash, and return it."""
        return self._json("POST", f"/v1/jobs/{job_id}/artifacts/{name}/restore")

    def delete_model(self, name: str, sha256: str) -> None:
        """Move a registered model to the trash."""
        self._send("DELETE", f"/v1/models/{name}/{sha256}")

    def restore_model(self, name: str, sha256: str) -> Json:
        """Take a model out of the trash, and return it."""
        return self._json("POST", f"/v1/models/{name}/{sha256}/restore")

    def usage(self) -> Json:
        """Return bytes by owner and kind, jobs by state, and GPU seconds by month."""
        return self._json("GET", "/v1/usage")

    def prune(self, *, dry_run: bool = False) -> Json:
        """Apply retention now for some seconds, or say what would go."""
        return self._json("POST", "/v1/prune", params={"dry_run": dry_run})

    def complete_page(self, path: Path) -> None:
        """Put the charts' program into a downloaded page that leaves it to the service.

        Raises:
            ClientError: the service has another program than the page names.

        """
        page = path.read_bytes()
        reference = chart_program.reference_in(page)
        if reference is None:
            return
        content: bytes = self._send("GET", f"/static/{reference.file_name}").content
        if not reference.fits(content):
            message = f"{reference.file_name} is not the program that {path.name} names"
            raise ClientError(message, code="digest_mismatch")
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(chart_program.with_program(page, content))
        part.replace(path)

    def page(self, job_id: str, name: str = "report.html") -> bytes:
        """Return a job's page with the charts' program inside."""
        content: bytes = self._send(
            "GET", f"/v1/jobs/{job_id}/artifacts/{name}", params={"self_contained": True}
        ).content
        return content
