"""The calls of the HTTP client that are about sweeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]


class SweepCalls(ABC):
    """What a client can ask about sweeps; how a request is sent is its own business."""

    @abstractmethod
    def _json(self, method: str, path: str, **request: Any) -> Json: ...

    @abstractmethod
    def _text(self, method: str, path: str) -> str: ...

    @abstractmethod
    def _submit(
        self, path: str, spec: Mapping[str, Any], key: str | None, owner: str | None, priority: int | None
    ) -> Json: ...

    def submit_sweep(
        self,
        sweep: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        owner: str | None = None,
        priority: int | None = None,
    ) -> Json:
        """Submit a sweep; return it. The same key and document give the same sweep."""
        return self._submit("/v1/sweeps", sweep, idempotency_key, owner, priority)

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
        return self._text("GET", f"/v1/sweeps/{sweep_id}/report")
