"""Describe the calls about datasets: push, list, show, download, delete."""

from __future__ import annotations

import time
from pathlib import Path

from retort.client.answers import RegisteredDataset
from retort.client.calls import Call, Fetch, Listing, Local, Pause, Progress, Steps, given, pages
from retort.client.operations import AwaitingPart, BlockingPart, call, listing, steps
from retort.client.transport import ClientError
from retort.client.uploads import Content, sent

ENDED = frozenset({"ready", "refused"})
_LOOK_S = 0.5


def _path(name: str, version: str, part: str = "") -> str:
    return f"/v1/datasets/{name}/{version}{part and '/'}{part}"


def _created(name: str, upload_id: str) -> Call[RegisteredDataset]:
    return Call("POST", "/v1/datasets", {"json": {"name": name, "upload": upload_id}})


class DatasetCalls:
    """Calls about datasets."""

    @steps
    def push(
        self, path: Path, name: str, *, progress: Progress | None = None, reading: Progress | None = None
    ) -> Steps[RegisteredDataset]:
        """Send an archive or a folder, and create a dataset from it.

        Return the dataset as it then stands. Only what the service lacks is sent; *reading* is told of the digests
        that are computed before.
        """
        content: Content = yield Local(lambda: Content.of(path, reading))
        upload = yield from sent(content, progress)
        dataset: RegisteredDataset = yield _created(name, upload["id"])
        return dataset

    @call
    def fetch(self, url: str, name: str, *, sha256: str | None = None) -> Call[RegisteredDataset]:
        """Have the service fetch an archive by https, and create a dataset from it."""
        return Call("POST", "/v1/datasets", {"json": given(name=name, url=url, sha256=sha256)})

    @call
    def create(self, name: str, upload_id: str) -> Call[RegisteredDataset]:
        """Create a dataset from an upload."""
        return _created(name, upload_id)

    @steps
    def wait(self, dataset: RegisteredDataset, *, timeout_s: float | None = None) -> Steps[RegisteredDataset]:
        """Return the dataset once it is ready.

        Raises:
            ClientError: it was refused; its findings say why.
            TimeoutError: it has not ended within *timeout_s*.

        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while dataset["state"] not in ENDED:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"dataset {dataset['name']} is still {dataset['state']}")
            yield Pause(_LOOK_S)
            dataset = yield Call("GET", _path(dataset["name"], dataset["id"]))
        if dataset["state"] == "refused":
            raise _refused(dataset)
        return dataset

    @listing
    def list(self, *, name: str | None = None) -> Listing[RegisteredDataset]:
        """Yield the datasets, newest first, page after page."""
        return pages("/v1/datasets", {"name": name})

    @call
    def versions(self, name: str) -> Call[tuple[RegisteredDataset, ...]]:
        """Return the versions of a dataset, newest first."""
        return Call("GET", f"/v1/datasets/{name}", reading="data")

    @call
    def version(self, name: str, version: str) -> Call[RegisteredDataset]:
        """Return one version, named by its id or the digits of its digest."""
        return Call("GET", _path(name, version))

    @call
    def delete(self, name: str, version: str) -> Call[None]:
        """Delete one version; specs cannot name it any more."""
        return Call("DELETE", _path(name, version), reading="nothing")

    @call
    def restore(self, name: str, version: str) -> Call[RegisteredDataset]:
        """Take one version out of the trash, and return it."""
        return Call("POST", _path(name, version, "restore"))

    @call
    def preview(self, name: str, version: str, number: int) -> Call[bytes]:
        """Return one of the dataset's preview images, a JPEG."""
        return Call("GET", _path(name, version, f"previews/{number}.jpg"), reading="content")

    @steps
    def download(self, name: str, version: str, path: Path) -> Steps[Path]:
        """Download the normalised dataset into the tar file *path*, and verify it."""
        yield Fetch(_path(name, version, "content"), path)
        return path


def _refused(dataset: RegisteredDataset) -> ClientError:
    errors = [one for one in dataset["findings"] if one["severity"] == "error"]
    told = "; ".join(": ".join((one["message"], *one.get("places", [])[:1])) for one in errors) or "it was refused"
    hint = next((found for one in errors if (found := one.get("hint"))), None)
    return ClientError(f"dataset {dataset['name']}: {told}", code="dataset_refused", hint=hint)


class DatasetClient(BlockingPart, DatasetCalls):
    """The datasets of a service."""


class AsyncDatasetClient(AwaitingPart, DatasetCalls):
    """The datasets of a service, for an event loop."""
