"""Datasets of a service: push, list, show, download, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from retort.client.transport import ClientError
from retort.client.uploads import Content, Json, Progress, UploadClient

ENDED = frozenset({"ready", "refused"})
_LOOK_S = 0.5


class DatasetClient:
    """Datasets of a service, by the requests and downloads of its client."""

    def __init__(self, send: Callable[..., Any], uploads: UploadClient, download: Callable[[str, Path], Path]) -> None:
        self._send = send
        self._uploads = uploads
        self._download = download

    def push(self, path: Path, name: str, *, progress: Progress | None = None, reading: Progress | None = None) -> Json:
        """Send an archive or a folder, and create a dataset from it.

        Return the dataset as it then stands. Only what the service lacks is sent; *reading* is told of the digests
        that are computed before.
        """
        upload = self._uploads.send(Content.of(path, reading), progress)
        return self.create(name, upload["id"])

    def create(self, name: str, upload_id: str) -> Json:
        """Create a dataset from an upload."""
        dataset: Json = self._send("POST", "/v1/datasets", json={"name": name, "upload": upload_id}).json()
        return dataset

    def wait(self, dataset: Json, *, timeout_s: float | None = None) -> Json:
        """Return the dataset once it is ready.

        Raises:
            ClientError: it was refused; its findings say why.
            TimeoutError: it has not ended within *timeout_s*.

        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while dataset["state"] not in ENDED:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"dataset {dataset['name']} is still {dataset['state']}")
            time.sleep(_LOOK_S)
            dataset = self.version(dataset["name"], dataset["id"])
        if dataset["state"] == "refused":
            errors = [one for one in dataset["findings"] if one["severity"] == "error"]
            told = "; ".join(": ".join((one["message"], *one["places"][:1])) for one in errors) or "it was refused"
            hint = next((one["hint"] for one in errors if one["hint"]), None)
            raise ClientError(f"dataset {dataset['name']}: {told}", code="dataset_refused", hint=hint)
        return dataset

    def list(self, *, name: str | None = None) -> Iterator[Json]:
        """Yield the datasets, newest first, page after page."""
        params: dict[str, Any] = {"limit": 100} if name is None else {"limit": 100, "name": name}
        while True:
            page = self._send("GET", "/v1/datasets", params=params).json()
            yield from page["data"]
            if not page["has_more"]:
                return
            params = {**params, "cursor": page["next_cursor"]}

    def versions(self, name: str) -> tuple[Json, ...]:
        """Return the versions of a dataset, newest first."""
        return tuple(self._send("GET", f"/v1/datasets/{name}").json()["data"])

    def version(self, name: str, version: str) -> Json:
        """Return one version, named by its id or the digits of its digest."""
        dataset: Json = self._send("GET", f"/v1/datasets/{name}/{version}").json()
        return dataset

    def delete(self, name: str, version: str) -> None:
        """Delete one version; specs cannot name it any more."""
        self._send("DELETE", f"/v1/datasets/{name}/{version}")

    def download(self, name: str, version: str, path: Path) -> Path:
        """Download the normalised dataset into the tar file *path*, and verify it."""
        return self._download(f"/v1/datasets/{name}/{version}/content", path)
