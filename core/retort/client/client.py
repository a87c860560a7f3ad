"""The HTTP client: submits jobs, follows them and fetches what they make."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx2 as httpx

from retort import __version__
from retort.client import calls, credentials
from retort.client.calls import Call, Json
from retort.client.credentials import is_loopback
from retort.client.datasets import DatasetClient
from retort.client.download import Partial
from retort.client.keeping import KeepingCalls
from retort.client.key_calls import KeyCalls
from retort.client.repeats import Repeats, is_repeatable
from retort.client.transport import ClientError, raise_problem, unreachable, worth_repeating
from retort.client.uploads import Content, UploadClient
from retort.client.webhooks import WebhooksClient
from retort.files import sha256_of
from retort.spec.result import Result, parse_result
from retort.states import TERMINAL

_CHUNK_BYTES = 1 << 20
_IN_PARTS_BYTES = 64 << 20
"""Weights from this size on are sent in parts."""
_PATIENCE_S = 600.0
"""For one answer: the service stores a large file before it answers."""


class _FileBody:
    """The bytes of a file, from the beginning whenever they are asked for: a request may be repeated."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


class ReviewClient:
    """A job's review on a service.

    The client's *send* makes the requests, and raises when the service refuses.
    """

    def __init__(self, send: Callable[..., Any], job_id: str) -> None:
        self._send = send
        self._job = f"/v1/jobs/{job_id}"
        self._home = f"{self._job}/review"

    def get(self) -> Json:
        """Return the progress of the review."""
        return self._json("GET", "")

    def images(self, *, decided: bool | None = None) -> Iterator[Json]:
        """Yield the review's images with their boxes and decisions, in pages.

        The boxes are the teacher's; each next page is requested when it is needed.
        """
        cursor: str | None = None
        while True:
            page = self._json("GET", "/images", params=calls.given(decided=decided, cursor=cursor, limit=200))
            yield from page["data"]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return

    def decide(self, image: str, decision: str, **about: Any) -> Json:
        """Accept, reject or edit an image of the review.

        To edit it, pass the new *boxes*; *about* may also name the *reviewer*.
        """
        return self._json("PUT", f"/images/{image}", json={"decision": decision, **about})

    def picture(self, image: str) -> bytes:
        """Return the published copy of an image, a JPEG without boxes."""
        content: bytes = self._send("GET", f"{self._job}/artifacts/review/{image}.jpg").content
        return content

    def complete(self, **how: Any) -> Json:
        """Complete the review and return the job; *rest* decides the open images."""
        return self._json("POST", "/complete", json=calls.given(**how))

    def export(self, form: str) -> bytes:
        """Return the review as a file in another tool's format."""
        content: bytes = self._send("GET", f"{self._home}/export", params={"format": form}).content
        return content

    def take(
        self, form: str, data: bytes, *, reviewer: str | None = None, looked_at: Literal["changed", "all"] | None = None
    ) -> Json:
        """Import a file of boxes; return the progress of the review.

        The boxes in the file replace those of their images. *looked_at* ``all`` says that images with unchanged boxes
        were looked at too.
        """
        params = calls.given(format=form, reviewer=reviewer, looked_at=looked_at)
        headers = {"Content-Type": "application/octet-stream"}
        return self._json("POST", "/import", params=params, content=data, headers=headers)

    def _json(self, method: str, path: str, **request: Any) -> Json:
        answer: Json = self._send(method, self._home + path, **request).json()
        return answer


_PAUSE_S = 0.25
_NOTHING_FOLLOWS = 204
"""Of a stream whose job has ended."""
_LONGEST_PAUSE_S = 5.0
_LONGEST_WAIT_S = 25.0
"""For one answer about a job that goes on; proxies cut what is silent for a minute."""
_FIRST_PATIENCE_S = 2.0
"""A service that has never answered is more likely misspelt than restarting."""


class Client(KeyCalls, KeepingCalls):
    """A connection to one service.

    Use it as a context manager, or call ``close``.

    Args:
        url: address of the service, such as ``http://127.0.0.1:8000``.
        timeout_s: how long one answer may take.
        patience_s: for how long an unreachable or overloaded service is tried again. What may have been done is
            only repeated where that is harmless; submissions carry an idempotency key.
        key: the API key; left out, it is ``RETORT_KEY``, or for a service on this machine the one in its home folder.

    """

    def __init__(
        self, url: str, *, timeout_s: float = 30.0, patience_s: float = 15.0, key: str | None = None
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/")
        self.is_local = is_loopback(httpx.URL(self.url).host)
        """Whether the service is on this machine."""
        self.patience_s = min(patience_s, _FIRST_PATIENCE_S)
        self._patience_when_known_s = patience_s
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout_s,
            headers={"User-Agent": f"retort/{__version__}", **credentials.headers(self.url, key)},
            follow_redirects=True,
            trust_env=not self.is_local,  # a proxy has no way to this machine
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of the client."""
        self._http.close()

    def submit(
        self,
        spec: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        owner: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Json:
        """Submit a job spec; return the queued job.

        The same key and spec give the same job.
        """
        terms: Json = {"idempotency_key": idempotency_key, "owner": owner, "priority": priority, "labels": labels}
        return self._call(calls.submit("/v1/jobs", spec, **terms))

    def get(self, job_id: str) -> Json:
        """Return the job."""
        return self._call(calls.job(job_id))

    def result(self, job_id: str) -> Result | None:
        """Return the result of a job; None before the job has succeeded."""
        stored = self.get(job_id)["result"]
        return None if stored is None else parse_result(stored)

    def list(self, *, labels: Mapping[str, str | None] | None = None, **filters: Any) -> Iterator[Json]:
        """Yield the jobs that meet all *filters*, newest first, page after page.

        *filters* are those of ``GET /v1/jobs``: *state* (one or several), *name*, *owner*, *created_after*,
        *created_before*, *student*, *teacher*, *dataset*, *recipe*, *sweep* and *q*, words in name and labels; *order*
        gives another order, such as ``-best``. Of *labels*, None stands for any value.
        """
        return self._pages("/v1/jobs", **calls.job_filters(labels, filters))

    def cancel(self, job_id: str) -> Json:
        """Request the cancellation of a job; return the job.

        Asking twice is harmless.
        """
        return self._call(calls.act(job_id, "cancel"))

    def pause(self, job_id: str) -> Json:
        """Pause a job, and return it.

        The job can resume from its last whole epoch.
        """
        return self._call(calls.act(job_id, "pause"))

    def resume(self, job_id: str) -> Json:
        """Resume a paused job and return it."""
        return self._call(calls.act(job_id, "resume"))

    def stop(self, job_id: str) -> Json:
        """Ask a job to finish its training early; return the job.

        The best network so far is published.
        """
        return self._call(calls.act(job_id, "stop"))

    def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Json:
        """Queue a job that continues a job which has ended; return it.

        The earlier job failed, was cancelled or expired.
        """
        return self._call(calls.retry(job_id, idempotency_key))

    def clone(self, job_id: str, patch: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None) -> Json:
        """Queue a new job from a job's spec and *patch*; return it.

        *patch* changes the spec (RFC 7396); the new job starts from the beginning.
        """
        return self._call(calls.clone(job_id, patch, idempotency_key))

    def prioritize(self, job_id: str, priority: int) -> Json:
        """Change the priority of a job; return the job."""
        return self.change(job_id, priority=priority)

    def change(
        self,
        job_id: str,
        *,
        name: str | None = None,
        labels: Mapping[str, str | None] | None = None,
        priority: int | None = None,
        version: str | None = None,
    ) -> Json:
        """Rename or label a job, or change its priority; return the job.

        A label with None is removed, and labels that are not named stay. With *version*, an ETag of the job, nothing
        changes if the job has changed since.
        """
        return self._call(calls.change(job_id, name=name, labels=labels, priority=priority, version=version))

    def act(self, action: Literal["cancel", "retry", "delete"], job_ids: Sequence[str]) -> tuple[Json, ...]:
        """Cancel, retry or delete up to a hundred jobs; return what became of each."""
        return tuple(self._call(calls.act_on_many(action, job_ids))["data"])

    def validate(self, spec: Mapping[str, Any]) -> Json:
        """Check a spec without queueing it; return what warnings and estimates there are.

        Raises:
            ClientError: the service would not take it.

        """
        return self._call(calls.validate(spec))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Json]:
        """Yield the job's recorded events with ``seq`` above *after*, oldest first."""
        while True:
            page = self._call(calls.part(job_id, "events", after=after))
            yield from page["data"]
            after = page["next_after"]
            if not page["has_more"]:
                return

    def stream(self, job_id: str, *, after: int = 0) -> Iterator[Json]:
        """Yield the job's events as they happen, until the job ends.

        A broken connection resumes where it was.
        """
        silent_since = time.monotonic()
        pause_s = _PAUSE_S
        while True:
            try:
                headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
                with self._http.stream("GET", f"/v1/jobs/{job_id}/stream", headers=headers) as answer:
                    raise_problem(answer)
                    if answer.status_code == _NOTHING_FOLLOWS:
                        return
                    silent_since, pause_s = time.monotonic(), _PAUSE_S
                    for message in httpx.EventSource(answer):
                        if message.event == "end":
                            return
                        if not message.data:
                            continue  # the service tells the time to wait before a reconnect
                        event: Json = json.loads(message.data)
                        after = max(after, event["seq"])
                        yield event
            except (httpx.TransportError, ClientError) as error:
                if time.monotonic() - silent_since > self.patience_s or not worth_repeating(error):
                    raise unreachable(self.url, error) from error
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def metrics(self, job_id: str, *, role: str | None = None, name: str | None = None) -> tuple[Json, ...]:
        """Return the metric series of a job.

        Each has the role, the name, and points of step, value and time.
        """
        return tuple(self._call(calls.part(job_id, "metrics", role=role, name=name))["data"])

    def waiting(self, job_id: str) -> Json:
        """Return for what a queued job waits: reason, message, position, until, workers that run."""
        return self._call(calls.part(job_id, "waiting"))

    def audit(self, **filters: Any) -> tuple[Json, ...]:
        """Return who changed what, the latest first; for operators.

        *filters* are ``project``, ``owner``, ``action``, ``before`` and ``limit``.
        """
        return tuple(self._json("GET", "/v1/audit", params=calls.given(**filters))["data"])

    def quota(self, project: str) -> Json:
        """Return how much a project may have, and what it has used of it."""
        return self._json("GET", f"/v1/projects/{project}/quota")

    def set_quota(self, project: str, **limits: float) -> Json:
        """Set the quota of a project; limits left out are as in the settings."""
        return self._json("PUT", f"/v1/projects/{project}/quota", json=limits)

    def workers(self) -> tuple[Json, ...]:
        """Return the workers that run."""
        return tuple(self._json("GET", "/v1/workers")["data"])

    def artifacts(self, job_id: str) -> tuple[Json, ...]:
        """Return the artifacts that the job has published so far."""
        return tuple(self._call(calls.part(job_id, "artifacts"))["data"])

    def tensorboard(self, job_id: str, path: Path) -> Path:
        """Download the job's TensorBoard event files into the ZIP file *path*.

        They hold the curves so far.
        """
        answer = self._send("GET", f"/v1/jobs/{job_id}/artifacts/tensorboard")
        part = path.with_name(f".{path.name}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(answer.content)
        return part.replace(path)

    def download_url(self, artifact_id: str, *, expires_in_s: int = 3600) -> Json:
        """Return an address that opens an artifact without a key."""
        return self._call(calls.download_url(artifact_id, expires_in_s))

    def predict(self, job_id: str, image: Path | bytes, *, confidence: float = 0.25) -> Json:
        """Return the boxes that the job's last network finds on an image."""
        content = image if isinstance(image, bytes) else image.read_bytes()
        return self._call(calls.predict(job_id, content, confidence))

    @property
    def webhooks(self) -> WebhooksClient:
        """The client of the project's webhooks."""
        return WebhooksClient(self._send)

    def review(self, job_id: str) -> ReviewClient:
        """Return the client of the review of a job's pseudo-labels."""
        return ReviewClient(self._send, job_id)

    def wait(self, job_id: str, *, timeout_s: float | None = None, every_s: float = _LONGEST_WAIT_S) -> Json:
        """Return the job once it has ended.

        The service answers when it has, or after *every_s* at the latest, and is asked again.

        Raises:
            TimeoutError: it has not within *timeout_s*.

        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            rest = every_s if deadline is None else min(every_s, deadline - time.monotonic())
            wait_s = round(min(_LONGEST_WAIT_S, max(0.0, rest)), 3)
            job = self._call(calls.job(job_id, wait_s=wait_s, timeout_s=self._timeout_s))
            if job["state"] in TERMINAL:
                return job
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{job_id} is still {job['state']}")

    def download(
        self, job_id: str, name: str, path: Path, *, progress: Callable[[int, int], None] | None = None
    ) -> Path:
        """Download an artifact into the file *path*, and verify the SHA-256.

        A later call resumes what an earlier call left.

        Args:
            job_id: whose artifact.
            name: the artifact's name, such as ``student.pt``.
            path: where to; it appears only when it is whole and right. A right one that is there is left alone.
            progress: called with the bytes there are and the bytes there will be.

        Raises:
            ClientError: the service refused, or what came is not what the service promised.

        """
        return self._download(f"/v1/jobs/{job_id}/artifacts/{name}", path, progress)

    def advise(
        self,
        spec: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        owner: str | None = None,
        priority: int | None = None,
    ) -> Json:
        """Submit a spec for teacher advice; return the queued job.

        Its result says which of some teachers should teach.
        """
        terms: Json = {"idempotency_key": idempotency_key, "owner": owner, "priority": priority}
        return self._call(calls.submit("/v1/advise", spec, **terms))

    def models(self) -> Iterator[Json]:
        """Yield the registered models, newest first, page after page."""
        return self._pages("/v1/models")

    def model(self, name: str) -> tuple[Json, ...]:
        """Return all registered versions of a model, newest first."""
        return tuple(self._json("GET", f"/v1/models/{name}")["data"])

    def register_model(self, path: Path, name: str, *, progress: Callable[[int, int], None] | None = None) -> Json:
        """Register the weights file *path* as a named model.

        Return the model. Sending the same file again is harmless; a large one goes in parts, and a later call goes on
        where an earlier one was interrupted.
        """
        if path.stat().st_size >= _IN_PARTS_BYTES:
            upload = self.uploads.send(Content.of(path), progress)
            params = {"name": name, "upload": upload["id"]}
            return self._json("POST", "/v1/models", params=params, timeout=_PATIENCE_S)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
        body = _FileBody(path)
        return self._json(
            "POST", "/v1/models", params={"name": name}, content=body, headers=headers, timeout=_PATIENCE_S
        )

    def download_model(self, name: str, sha256: str, path: Path) -> Path:
        """Download a registered model into the file *path*, and verify it.

        An interrupted download is resumed, as for artifacts.
        """
        return self._download(f"/v1/models/{name}/{sha256}", path)

    @property
    def uploads(self) -> UploadClient:
        """The uploads of the service."""
        return UploadClient(self._send, _PATIENCE_S)

    @property
    def datasets(self) -> DatasetClient:
        """The datasets of the service."""
        return DatasetClient(self._send, self.uploads, self._download)

    def submit_sweep(
        self,
        sweep: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        owner: str | None = None,
        priority: int | None = None,
    ) -> Json:
        """Submit a sweep; return the sweep.

        The same key and document give the same sweep.
        """
        terms: Json = {"idempotency_key": idempotency_key, "owner": owner, "priority": priority}
        return self._call(calls.submit("/v1/sweeps", sweep, **terms))

    def get_sweep(self, sweep_id: str) -> Json:
        """Return a sweep with its trials."""
        return self._json("GET", f"/v1/sweeps/{sweep_id}")

    def list_sweeps(self) -> Iterator[Json]:
        """Yield the sweeps, newest first, page after page."""
        return self._pages("/v1/sweeps")

    def cancel_sweep(self, sweep_id: str) -> Json:
        """Cancel a sweep and its jobs; return the sweep.

        Asking twice is harmless.
        """
        return self._json("POST", f"/v1/sweeps/{sweep_id}/cancel")

    def best_spec(self, sweep_id: str) -> Json:
        """Return the full spec of the best trial, ready to submit.

        It is the best trial so far.
        """
        return self._json("GET", f"/v1/sweeps/{sweep_id}/best")

    def sweep_report(self, sweep_id: str) -> str:
        """Return the sweep's report as one self-contained HTML page."""
        return self._text("GET", f"/v1/sweeps/{sweep_id}/report")

    def _download(self, url: str, path: Path, progress: Callable[[int, int], None] | None = None) -> Path:
        head = self._send("HEAD", url)
        part = Partial.promised(path, head.headers)
        if path.is_file() and part.sha256 == sha256_of(path):
            return path
        deadline = time.monotonic() + self.patience_s
        while part.missing:
            try:
                with self._http.stream("GET", url, headers=part.request_headers()) as answer:
                    raise_problem(answer)
                    for size in part.receive(answer.status_code, answer.iter_bytes()):
                        deadline = time.monotonic() + self.patience_s
                        if progress:
                            progress(size, part.size_bytes)
            except (httpx.TransportError, ClientError) as error:
                if time.monotonic() > deadline or not worth_repeating(error):
                    raise unreachable(self.url, error) from error
                time.sleep(_PAUSE_S)
        if not part.finish():
            raise ClientError(f"{path.name} arrived damaged", code="digest_mismatch", hint="download it again")
        return path

    def _pages(self, path: str, **params: Any) -> Iterator[Json]:
        cursor: str | None = None
        while True:
            page = self._call(calls.page(path, params, cursor))
            yield from page["data"]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return

    def _call(self, call: Call) -> Json:
        return self._json(call.method, call.path, **call.options)

    def _text(self, method: str, path: str) -> str:
        return str(self._send(method, path).text)

    def _json(self, method: str, path: str, **request: Any) -> Json:
        answer: Json = self._send(method, path, **request).json()
        return answer

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request, again where that is safe, until it is answered or patience ends."""
        retry = Repeats(self.url, self.patience_s, is_repeatable(method, path, request.get("headers", {})))
        while True:
            try:
                answer = self._http.request(method, path, **request)
                self.patience_s = self._patience_when_known_s
                raise_problem(answer)
            except (httpx.TransportError, ClientError) as error:
                time.sleep(retry.pause_after(error))
            else:
                return answer
