"""Describe the calls about registered models."""

from __future__ import annotations

from pathlib import Path

from retort.client.answers import Model
from retort.client.calls import OCTETS, Call, Fetch, Listing, Local, Progress, Steps, given, pages
from retort.client.operations import call, listing, steps
from retort.client.uploads import PATIENCE_S, Content, fetched, sent

_IN_PARTS_BYTES = 64 << 20
"""Weights from this size on are sent in parts."""


class ModelCalls:
    """Calls about registered models."""

    @listing
    def models(self) -> Listing[Model]:
        """Yield the registered models, newest first, page after page."""
        return pages("/v1/models")

    @call
    def model(self, name: str) -> Call[tuple[Model, ...]]:
        """Return all registered versions of a model, newest first."""
        return Call("GET", f"/v1/models/{name}", reading="data")

    @steps
    def register_model(self, path: Path, name: str, *, progress: Progress | None = None) -> Steps[Model]:
        """Register the weights file *path* as a named model.

        Return the model. Sending the same file again is harmless; a large one goes in parts, and a later call goes on
        where an earlier one was interrupted.
        """
        options = {"params": {"name": name}, "headers": OCTETS, "timeout": PATIENCE_S}
        if path.stat().st_size >= _IN_PARTS_BYTES:
            content: Content = yield Local(lambda: Content.of(path))
            upload = yield from sent(content, progress)
            options = {"params": {"name": name, "upload": upload["id"]}, "timeout": PATIENCE_S}
            model: Model = yield Call("POST", "/v1/models", options)
        else:
            model = yield Call("POST", "/v1/models", options, body=path.read_bytes)
        return model

    @steps
    def fetch_model(
        self, url: str, name: str, *, sha256: str | None = None, progress: Progress | None = None
    ) -> Steps[Model]:
        """Have the service fetch a weights file by https, and register it."""
        upload = yield Call("POST", "/v1/uploads/fetch", {"json": given(url=url, sha256=sha256)})
        upload = yield from fetched(upload, progress)
        options = {"params": {"name": name, "upload": upload["id"]}, "timeout": PATIENCE_S}
        model: Model = yield Call("POST", "/v1/models", options)
        return model

    @steps
    def download_model(self, name: str, sha256: str, path: Path) -> Steps[Path]:
        """Download a registered model into the file *path*, and verify it.

        An interrupted download is resumed, as for artifacts.
        """
        yield Fetch(f"/v1/models/{name}/{sha256}", path)
        return path

    @call
    def delete_model(self, name: str, sha256: str) -> Call[None]:
        """Move a registered model to the trash."""
        return Call("DELETE", f"/v1/models/{name}/{sha256}", reading="nothing")

    @call
    def restore_model(self, name: str, sha256: str) -> Call[Model]:
        """Take a model out of the trash, and return it."""
        return Call("POST", f"/v1/models/{name}/{sha256}/restore")
