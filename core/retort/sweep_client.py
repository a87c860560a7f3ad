"""The HTTP client for sweeps: submits, follows and cancels them, and fetches what they have found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from retort.client import Client, Json, name_submission


class SweepClient(Client):
    """A client that also knows sweeps."""

    def submit_sweep(
        self,
        sweep: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        owner: str | None = None,
        priority: int | None = None,
    ) -> Json:
        """Submit a sweep; return it. The same key and document give the same sweep."""
        params = {"owner": owner, "priority": priority}
        given = {name: value for name, value in params.items() if value is not None}
        return self._json(
            "POST", "/v1/sweeps", json=dict(sweep), params=given, headers=name_submission(idempotency_key)
        )  # fmt: skip

    def get_sweep(self, sweep_id: str) -> Json:
        """Return a sweep with its trials."""
        return self._json("GET", f"/v1/sweeps/{sweep_id}")

    def list_sweeps(self) -> Iterator[Json]:
        """Yield the sweeps, newest first, page after page."""
        params: dict[str, Any] = {"limit": 100}
        while True:
            page = self._json("GET", "/v1/sweeps", params=params)
            yield from page["data"]
            if not page["has_more"]:
                return
            params["cursor"] = page["next_cursor"]

    def cancel_sweep(self, sweep_id: str) -> Json:
        """Cancel a sweep and its jobs; return it. Asking twice is harmless."""
        return self._json("POST", f"/v1/sweeps/{sweep_id}/cancel")

    def best_spec(self, sweep_id: str) -> Json:
        """Return the whole spec of the best trial so far, ready to submit."""
        return self._json("GET", f"/v1/sweeps/{sweep_id}/best")

    def sweep_report(self, sweep_id: str) -> str:
        """Return the sweep's page, HTML that needs nothing else."""
        return str(self._send("GET", f"/v1/sweeps/{sweep_id}/report").text)
