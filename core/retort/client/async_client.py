"""The HTTP client for programs with an event loop; the same requests as ``Client``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx2 as httpx

from retort import __version__
from retort.client import calls, credentials
from retort.client.calls import Call, Json
from retort.client.credentials import is_loopback
from retort.client.download import Partial
from retort.client.repeats import Repeats, is_repeatable
from retort.client.transport import ClientError, raise_problem_of
from retort.files import sha256_of
from retort.spec.result import Result, parse_result
from retort.states import TERMINAL

_LONGEST_WAIT_S = 25.0
_NOTHING_FOLLOWS = 204
"""Of a stream whose job has ended."""
_PARTIAL = 206
"""Status of an answer whose bytes follow those that are there."""


class AsyncClient:
    """A connection to one service, for an event loop.

    Use it as an asynchronous context manager, or call ``close``.

    Args:
        url: address of the service, such as ``http://127.0.0.1:8000``.
        timeout_s: how long one answer may take.
        patience_s: for how long an unreachable or overloaded service is tried again, where that is safe.
        key: the API key; left out, it is found as by ``Client``.

    """

    def __init__(
        self, url: str, *, timeout_s: float = 30.0, patience_s: float = 15.0, key: str | None = None
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        self._timeout_s = timeout_s
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=timeout_s,
            headers={"User-Agent": f"retort/{__version__}", **credentials.headers(self.url, key)},
            follow_redirects=True,
            trust_env=not is_loopback(httpx.URL(self.url).host),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections of the client."""
        await self._http.aclose()

    async def submit(self, spec: Mapping[str, Any], **terms: Any) -> Json:
        """Submit a job spec; return the queued job.

        *terms* are *idempotency_key*, *owner*, *priority* and *labels*.
        """
        return await self._json(calls.submit("/v1/jobs", spec, **terms))

    async def advise(self, spec: Mapping[str, Any], **terms: Any) -> Json:
        """Submit a spec for teacher advice; return the queued job."""
        return await self._json(calls.submit("/v1/advise", spec, **terms))

    async def submit_sweep(self, sweep: Mapping[str, Any], **terms: Any) -> Json:
        """Submit a sweep; return the sweep."""
        return await self._json(calls.submit("/v1/sweeps", sweep, **terms))

    async def validate(self, spec: Mapping[str, Any]) -> Json:
        """Check a spec without queueing it; return what warnings and estimates there are."""
        return await self._json(calls.validate(spec))

    async def get(self, job_id: str) -> Json:
        """Return the job."""
        return await self._json(calls.job(job_id))

    async def result(self, job_id: str) -> Result | None:
        """Return the result of a job; None before the job has succeeded."""
        stored = (await self.get(job_id))["result"]
        return None if stored is None else parse_result(stored)

    async def wait(self, job_id: str, *, timeout_s: float | None = None) -> Json:
        """Return the job once it has ended.

        Raises:
            TimeoutError: it has not within *timeout_s*.

        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            rest = _LONGEST_WAIT_S if deadline is None else min(_LONGEST_WAIT_S, deadline - time.monotonic())
            found = await self._json(calls.job(job_id, wait_s=round(max(0.0, rest), 3), timeout_s=self._timeout_s))
            if found["state"] in TERMINAL:
                return found
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{job_id} is still {found['state']}")

    def list(self, *, labels: Mapping[str, str | None] | None = None, **filters: Any) -> AsyncIterator[Json]:
        """Yield the jobs that meet all *filters*, as ``Client.list`` does."""
        return self._pages("/v1/jobs", calls.job_filters(labels, filters))

    async def cancel(self, job_id: str) -> Json:
        """Request the cancellation of a job; return the job."""
        return await self._json(calls.act(job_id, "cancel"))

    async def pause(self, job_id: str) -> Json:
        """Pause a job, and return it."""
        return await self._json(calls.act(job_id, "pause"))

    async def resume(self, job_id: str) -> Json:
        """Resume a paused job and return it."""
        return await self._json(calls.act(job_id, "resume"))

    async def stop(self, job_id: str) -> Json:
        """Ask a job to finish its training early; return the job."""
        return await self._json(calls.act(job_id, "stop"))

    async def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Json:
        """Queue a job that continues a job which has ended; return it."""
        return await self._json(calls.retry(job_id, idempotency_key))

    async def clone(
        self, job_id: str, patch: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Json:
        """Queue a new job from a job's spec and *patch*; return it."""
        return await self._json(calls.clone(job_id, patch, idempotency_key))

    async def change(self, job_id: str, **changes: Any) -> Json:
        """Change a job, and return it; *changes* are as for ``Client.change``."""
        return await self._json(calls.change(job_id, **changes))

    async def act(self, action: Literal["cancel", "retry", "delete"], job_ids: Sequence[str]) -> tuple[Json, ...]:
        """Cancel, retry or delete up to a hundred jobs; return what became of each."""
        return tuple((await self._json(calls.act_on_many(action, job_ids)))["data"])

    async def waiting(self, job_id: str) -> Json:
        """Return for what a queued job waits."""
        return await self._json(calls.part(job_id, "waiting"))

    async def metrics(self, job_id: str, *, role: str | None = None, name: str | None = None) -> tuple[Json, ...]:
        """Return the metric series of a job."""
        return tuple((await self._json(calls.part(job_id, "metrics", role=role, name=name)))["data"])

    async def artifacts(self, job_id: str) -> tuple[Json, ...]:
        """Return the artifacts that the job has published so far."""
        return tuple((await self._json(calls.part(job_id, "artifacts")))["data"])

    async def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[Json]:
        """Yield the job's recorded events with ``seq`` above *after*, oldest first."""
        while True:
            page = await self._json(calls.part(job_id, "events", after=after))
            for event in page["data"]:
                yield event
            after = page["next_after"]
            if not page["has_more"]:
                return

    async def stream(self, job_id: str, *, after: int = 0) -> AsyncIterator[Json]:
        """Yield the job's events as they happen, until the job ends.

        A broken connection resumes where it was.
        """
        retry = self._retry("GET", "", {})
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            try:
                async with self._http.stream("GET", f"/v1/jobs/{job_id}/stream", headers=headers) as answer:
                    if answer.status_code >= 400:
                        await answer.aread()
                    raise_problem_of(answer)
                    if answer.status_code == _NOTHING_FOLLOWS:
                        return
                    retry = self._retry("GET", "", {})
                    async for message in httpx.EventSource(answer):
                        if message.event == "end":
                            return
                        if message.data:
                            event: Json = json.loads(message.data)
                            after = max(after, event["seq"])
                            yield event
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.pause_after(error))

    async def workers(self) -> tuple[Json, ...]:
        """Return the workers that run."""
        return tuple((await self._json(Call("GET", "/v1/workers")))["data"])

    def models(self) -> AsyncIterator[Json]:
        """Yield the registered models, newest first, page after page."""
        return self._pages("/v1/models", {})

    async def predict(self, job_id: str, image: Path | bytes, *, confidence: float = 0.25) -> Json:
        """Return the boxes that the job's last network finds on an image."""
        content = image if isinstance(image, bytes) else await asyncio.to_thread(image.read_bytes)
        return await self._json(calls.predict(job_id, content, confidence))

    async def download_url(self, artifact_id: str, *, expires_in_s: int = 3600) -> Json:
        """Return an address that opens an artifact without a key."""
        return await self._json(calls.download_url(artifact_id, expires_in_s))

    async def download(self, job_id: str, name: str, path: Path) -> Path:
        """Download an artifact into the file *path*, and verify the SHA-256.

        A later call resumes what an earlier call left.

        Raises:
            ClientError: the service refused, or what came is not what the service promised.

        """
        url = f"/v1/jobs/{job_id}/artifacts/{name}"
        part = Partial.promised(path, (await self._send(Call("HEAD", url))).headers)
        if await asyncio.to_thread(lambda: path.is_file() and part.sha256 == sha256_of(path)):
            return path
        retry = self._retry("GET", url, {})
        while part.missing:
            try:
                async with self._http.stream("GET", url, headers=part.request_headers()) as answer:
                    if answer.status_code >= 400:
                        await answer.aread()
                    raise_problem_of(answer)
                    status = answer.status_code
                    async for piece in answer.aiter_bytes():
                        for _ in part.receive(status, (piece,)):
                            status, retry = _PARTIAL, self._retry("GET", url, {})
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.pause_after(error))
        if not await asyncio.to_thread(part.finish):
            raise ClientError(f"{path.name} arrived damaged", code="digest_mismatch", hint="download it again")
        return path

    async def _pages(self, path: str, params: Mapping[str, Any]) -> AsyncIterator[Json]:
        cursor: str | None = None
        while True:
            page = await self._json(calls.page(path, params, cursor))
            for one in page["data"]:
                yield one
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return

    def _retry(self, method: str, path: str, headers: Mapping[str, str]) -> Repeats:
        return Repeats(self.url, self.patience_s, is_repeatable(method, path, headers))

    async def _json(self, call: Call) -> Json:
        answer: Json = (await self._send(call)).json()
        return answer

    async def _send(self, call: Call) -> httpx.Response:
        """Send a request, again where that is safe, until it is answered or patience ends."""
        retry = self._retry(call.method, call.path, call.options.get("headers", {}))
        while True:
            try:
                answer = await self._http.request(call.method, call.path, **call.options)
                raise_problem_of(answer)
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.pause_after(error))
            else:
                return answer
