"""The calls of the HTTP client that are about models: advice, and what is registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

_CHUNK_BYTES = 1 << 20
_PATIENCE_S = 600.0
"""For one answer: the service stores a large file before it answers."""


class ModelCalls(ABC):
    """What a client can ask about models; how a request is sent is its own business."""

    @abstractmethod
    def _json(self, method: str, path: str, **request: Any) -> Json: ...

    @abstractmethod
    def _submit(
        self, path: str, spec: Mapping[str, Any], key: str | None, owner: str | None, priority: int | None
    ) -> Json: ...

    @abstractmethod
    def _download(self, url: str, path: Path, progress: Callable[[int, int], None] | None = None) -> Path: ...

    def advise(
        self,
        spec: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        owner: str | None = None,
        priority: int | None = None,
    ) -> Json:
        """Ask which of some teachers should teach; return the queued job, whose result will be the advice."""
        return self._submit("/v1/advise", spec, idempotency_key, owner, priority)

    def models(self) -> Iterator[Json]:
        """Yield the registered models, newest first, page after page."""
        cursor: str | None = None
        while True:
            params = {"limit": 100, **({} if cursor is None else {"cursor": cursor})}
            page = self._json("GET", "/v1/models", params=params)
            yield from page["data"]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return

    def model(self, name: str) -> tuple[Json, ...]:
        """Return all that is registered by a name, newest first."""
        return tuple(self._json("GET", f"/v1/models/{name}")["data"])

    def register_model(self, path: Path, name: str) -> Json:
        """Register the weights file *path* by a name; return the model. Sending the same file again is harmless."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
        body = _FileBody(path)
        return self._json(
            "POST", "/v1/models", params={"name": name}, content=body, headers=headers, timeout=_PATIENCE_S
        )

    def download_model(self, name: str, sha256: str, path: Path) -> Path:
        """Fetch a registered model into the file *path*, as artifacts are fetched: continued, and verified."""
        return self._download(f"/v1/models/{name}/{sha256}", path)


class _FileBody:
    """The bytes of a file, from the beginning whenever they are asked for: a request may be repeated."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
