"""Describe the calls about sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retort.client.answers import Sweep, SweepSummary
from retort.client.calls import Call, Json, Listing, pages, submission
from retort.client.operations import call, listing


class SweepCalls:
    """Calls about sweeps."""

    @call
    def submit_sweep(
        self,
        sweep: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        owner: str | None = None,
        priority: int | None = None,
    ) -> Call[Sweep]:
        """Submit a sweep; return the sweep.

        The same key and document give the same sweep.
        """
        return submission("/v1/sweeps", sweep, idempotency_key=idempotency_key, owner=owner, priority=priority)

    @call
    def get_sweep(self, sweep_id: str) -> Call[Sweep]:
        """Return a sweep with its trials."""
        return Call("GET", f"/v1/sweeps/{sweep_id}")

    @listing
    def list_sweeps(self) -> Listing[SweepSummary]:
        """Yield the sweeps, newest first, page after page."""
        return pages("/v1/sweeps")

    @call
    def cancel_sweep(self, sweep_id: str) -> Call[Sweep]:
        """Cancel a sweep and its jobs; return the sweep.

        Asking twice is harmless.
        """
        return Call("POST", f"/v1/sweeps/{sweep_id}/cancel")

    @call
    def best_spec(self, sweep_id: str) -> Call[Json]:
        """Return the full spec of the best trial, ready to submit.

        It is the best trial so far.
        """
        return Call("GET", f"/v1/sweeps/{sweep_id}/best")

    @call
    def sweep_report(self, sweep_id: str) -> Call[str]:
        """Return the sweep's report as one self-contained HTML page."""
        whole = {"params": {"self_contained": True}}
        return Call("GET", f"/v1/sweeps/{sweep_id}/report", whole, reading="text")

    @call
    def keep_sweep(self, sweep_id: str, *, keep: bool = True) -> Call[Sweep]:
        """Pin a sweep with its jobs, or unpin it; return it."""
        return Call("PATCH", f"/v1/sweeps/{sweep_id}", {"json": {"keep": keep}})

    @call
    def delete_sweep(self, sweep_id: str) -> Call[None]:
        """Move an ended sweep to the trash, with its jobs."""
        return Call("DELETE", f"/v1/sweeps/{sweep_id}", reading="nothing")

    @call
    def restore_sweep(self, sweep_id: str) -> Call[Sweep]:
        """Take a sweep out of the trash with its jobs, and return it."""
        return Call("POST", f"/v1/sweeps/{sweep_id}/restore")
