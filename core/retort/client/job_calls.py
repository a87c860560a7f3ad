"""Describe the calls about jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from retort.client import whole_pages
from retort.client.answers import (
    Artifact,
    Attempt,
    BulkOutcome,
    DownloadUrl,
    Event,
    Job,
    JobSummary,
    Prediction,
    Series,
    Validation,
    Waiting,
)
from retort.client.calls import (
    OCTETS,
    Call,
    Fetch,
    Found,
    Json,
    Listing,
    Local,
    Progress,
    Steps,
    given,
    pages,
    submission,
    submission_key,
)
from retort.client.operations import call, listing, steps
from retort.spec.result import Result, parse_result
from retort.states import TERMINAL

_LONGEST_WAIT_S = 25.0
"""For one answer about a job that goes on; proxies cut what is silent for a minute."""
_PREDICTION_S = 60.0
"""For the boxes on an image: a worker may have to load the network."""


def job_path(job_id: str, part: str = "") -> str:
    """Return the address of a job or of a part of it."""
    return f"/v1/jobs/{job_id}{part and '/'}{part}"


def changed(job_id: str, *, version: str | None = None, **changes: Any) -> Call[Job]:
    """Change something about a job."""
    headers = {} if version is None else {"If-Match": version}
    return Call("PATCH", job_path(job_id), {"json": given(**changes), "headers": headers})


class JobCalls:
    """Calls about jobs."""

    _timeout_s: float
    """How long one answer may take."""

    @call
    def submit(
        self,
        spec: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        owner: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Call[Job]:
        """Submit a job spec; return the queued job.

        The same key and spec give the same job.
        """
        terms: Json = {"idempotency_key": idempotency_key, "owner": owner, "priority": priority, "labels": labels}
        return submission("/v1/jobs", spec, **terms)

    @call
    def advise(
        self,
        spec: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        owner: str | None = None,
        priority: int | None = None,
    ) -> Call[Job]:
        """Submit a spec for teacher advice; return the queued job.

        Its result says which of some teachers should teach.
        """
        return submission("/v1/advise", spec, idempotency_key=idempotency_key, owner=owner, priority=priority)

    @call
    def validate(self, spec: Mapping[str, Any]) -> Call[Validation]:
        """Check a spec without queueing it; return warnings, estimates and what quotas say.

        Raises:
            ClientError: the service would not take it.

        """
        return Call("POST", "/v1/validate", {"json": dict(spec)})

    @call
    def get(self, job_id: str) -> Call[Job]:
        """Return the job."""
        return Call("GET", job_path(job_id))

    @steps
    def result(self, job_id: str) -> Steps[Result | None]:
        """Return the result of a job; None before the job has succeeded."""
        job: Job = yield Call("GET", job_path(job_id))
        return None if job["result"] is None else parse_result(job["result"])

    @listing
    def list(self, /, *, labels: Mapping[str, str | None] | None = None, **filters: Any) -> Listing[JobSummary]:
        """Yield the jobs that meet all *filters*, newest first, page after page.

        *filters* are those of ``GET /v1/jobs``: *state* (one or several), *name*, *owner*, *created_after*,
        *created_before*, *student*, *teacher*, *dataset*, *recipe*, *sweep* and *q*, words in name and labels; *order*
        gives another order, such as ``-best``. Of *labels*, None stands for any value.
        """
        wanted = [key if value is None else f"{key}={value}" for key, value in (labels or {}).items()]
        return pages("/v1/jobs", given(**filters, label=wanted or None))

    @call
    def cancel(self, job_id: str) -> Call[Job]:
        """Request the cancellation of a job; return the job.

        Asking twice is harmless.
        """
        return Call("POST", job_path(job_id, "cancel"))

    @call
    def pause(self, job_id: str) -> Call[Job]:
        """Pause a job, and return it.

        The job can resume from its last whole epoch.
        """
        return Call("POST", job_path(job_id, "pause"))

    @call
    def resume(self, job_id: str) -> Call[Job]:
        """Resume a paused job and return it."""
        return Call("POST", job_path(job_id, "resume"))

    @call
    def stop(self, job_id: str) -> Call[Job]:
        """Ask a job to finish its training early; return the job.

        The best network so far is published.
        """
        return Call("POST", job_path(job_id, "stop"))

    @call
    def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Call[Job]:
        """Queue a job that continues a job which has ended; return it.

        The earlier job failed, was cancelled or expired.
        """
        return Call("POST", job_path(job_id, "retry"), {"headers": submission_key(idempotency_key)})

    @call
    def clone(
        self, job_id: str, patch: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Call[Job]:
        """Queue a new job from a job's spec and *patch*; return it.

        *patch* changes the spec (RFC 7396); the new job starts from the beginning.
        """
        options = {"json": dict(patch or {}), "headers": submission_key(idempotency_key)}
        return Call("POST", job_path(job_id, "clone"), options)

    @call
    def extend(
        self,
        job_id: str,
        epochs: int,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Job]:
        """Queue a job that adds *epochs* to one that has succeeded; return it.

        Student and control go on from their last states, through the end of the schedule again.
        """
        body = {"epochs": epochs, **given(name=name, labels=labels and dict(labels), priority=priority)}
        options = {"json": body, "headers": submission_key(idempotency_key)}
        return Call("POST", job_path(job_id, "extend"), options)

    @call
    def prioritize(self, job_id: str, priority: int) -> Call[Job]:
        """Change the priority of a job; return the job."""
        return changed(job_id, priority=priority)

    @call
    def change(
        self,
        job_id: str,
        *,
        name: str | None = None,
        labels: Mapping[str, str | None] | None = None,
        priority: int | None = None,
        version: str | None = None,
    ) -> Call[Job]:
        """Rename or label a job, or change its priority; return the job.

        A label with None is removed, and labels that are not named stay. With *version*, an ETag of the job, nothing
        changes if the job has changed since.
        """
        told = None if labels is None else dict(labels)
        return changed(job_id, version=version, name=name, labels=told, priority=priority)

    @call
    def act(
        self, action: Literal["cancel", "retry", "delete"], job_ids: Sequence[str]
    ) -> Call[tuple[BulkOutcome, ...]]:
        """Cancel, retry or delete up to a hundred jobs; return what became of each."""
        body = {"action": action, "ids": [*job_ids]}
        return Call("POST", "/v1/bulk", {"json": body, "headers": submission_key(None)}, "data")

    @listing
    def events(self, job_id: str, *, after: int = 0) -> Listing[Event]:
        """Yield the job's recorded events with ``seq`` above *after*, oldest first."""
        while True:
            page = yield Call("GET", job_path(job_id, "events"), {"params": {"after": after}})
            yield from map(Found, page["data"])
            after = page["next_after"]
            if not page["has_more"]:
                return

    @call
    def attempts(self, job_id: str) -> Call[tuple[Attempt, ...]]:
        """Return the attempts at a job, oldest first."""
        return Call("GET", job_path(job_id, "attempts"), reading="data")

    @call
    def metrics(self, job_id: str, *, role: str | None = None, name: str | None = None) -> Call[tuple[Series, ...]]:
        """Return the metric series of a job.

        Each has the role, the name, and points of step, value and time.
        """
        return Call("GET", job_path(job_id, "metrics"), {"params": given(role=role, name=name)}, "data")

    @call
    def waiting(self, job_id: str) -> Call[Waiting]:
        """Return for what a queued job waits: reason, message, position, until, workers that run."""
        return Call("GET", job_path(job_id, "waiting"))

    @call
    def artifacts(self, job_id: str) -> Call[tuple[Artifact, ...]]:
        """Return the artifacts that the job has published so far."""
        return Call("GET", job_path(job_id, "artifacts"), reading="data")

    @steps
    def tensorboard(self, job_id: str, path: Path) -> Steps[Path]:
        """Download the job's TensorBoard event files into the ZIP file *path*.

        They hold the curves so far.
        """
        content: bytes = yield Call("GET", job_path(job_id, "artifacts/tensorboard"), reading="content")
        yield Local(lambda: _write(path, content))
        return path

    @call
    def download_url(self, artifact_id: str, *, expires_in_s: int = 3600) -> Call[DownloadUrl]:
        """Return an address that opens an artifact without a key."""
        return Call("POST", f"/v1/artifacts/{artifact_id}/download-url", {"json": {"expires_in_s": expires_in_s}})

    @call
    def predict(
        self, job_id: str, image: Path | bytes, *, confidence: float = 0.25, network: str | None = None
    ) -> Call[Prediction]:
        """Return the boxes that the job's last, or another, *network* finds on an image."""
        params = {"confidence": confidence} if network is None else {"confidence": confidence, "network": network}
        options = {"params": params, "headers": OCTETS, "timeout": _PREDICTION_S}
        body = (lambda: image) if isinstance(image, bytes) else image.read_bytes
        return Call("POST", job_path(job_id, "predict"), options, body=body)

    @steps
    def wait(self, job_id: str, *, timeout_s: float | None = None, every_s: float = _LONGEST_WAIT_S) -> Steps[Job]:
        """Return the job once it has ended.

        The service answers when it has, or after *every_s* at the latest, and is asked again.

        Raises:
            TimeoutError: it has not within *timeout_s*.

        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            rest = every_s if deadline is None else min(every_s, deadline - time.monotonic())
            wait_s = round(min(_LONGEST_WAIT_S, max(0.0, rest)), 3)
            options = {"params": {"wait": wait_s}, "timeout": wait_s + self._timeout_s}
            job: Job = yield Call("GET", job_path(job_id), options)
            if job["state"] in TERMINAL:
                return job
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{job_id} is still {job['state']}")

    @steps
    def download(self, job_id: str, name: str, path: Path, *, progress: Progress | None = None) -> Steps[Path]:
        """Download an artifact into the file *path*, and verify the SHA-256.

        A later call resumes what an earlier call left. A report gets the charts' program inside, so that it opens
        without the service.

        Args:
            job_id: whose artifact.
            name: the artifact's name, such as ``student.pt``.
            path: where to; it appears only when it is whole and right. A right one that is there is left alone.
            progress: called with the bytes there are and the bytes there will be.

        Raises:
            ClientError: the service refused, or what came is not what the service promised.

        """
        address = job_path(job_id, f"artifacts/{name}")
        yield Fetch(address, path, progress)
        if name == whole_pages.REPORT:
            yield from whole_pages.completed(address, path)
        return path


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(content)
    part.replace(path)
