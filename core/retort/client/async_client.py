"""The HTTP client for programs with an event loop; the same calls as ``Client``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2 as httpx

from retort.client.answers import Event
from retort.client.calls import Call, Fetch, Found, Json, Listing, Local, Pause, Step, Steps, Together
from retort.client.datasets import AsyncDatasetClient
from retort.client.download import Partial, damaged
from retort.client.job_calls import JobCalls, job_path
from retort.client.keeping import KeepingCalls
from retort.client.key_calls import KeyCalls
from retort.client.model_calls import ModelCalls
from retort.client.operations import Awaiting
from retort.client.repeats import Repeats, repeats_of
from retort.client.reviews import AsyncReviewClient
from retort.client.service_calls import ServiceCalls
from retort.client.sweep_calls import SweepCalls
from retort.client.transport import NOTHING_FOLLOWS, ClientError, connection, raise_problem_of
from retort.client.uploads import AsyncUploadClient
from retort.client.webhooks import AsyncWebhooksClient
from retort.files import sha256_of

_PARTIAL = 206
"""Status of an answer whose bytes follow those that are there."""
Answer = TypeVar("Answer")


class AsyncClient(Awaiting, JobCalls, SweepCalls, ModelCalls, KeepingCalls, KeyCalls, ServiceCalls):
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
        self._http = httpx.AsyncClient(**connection(self.url, key=key, timeout_s=timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections of the client."""
        await self._http.aclose()

    @property
    def webhooks(self) -> AsyncWebhooksClient:
        """The client of the project's webhooks."""
        return AsyncWebhooksClient(self)

    @property
    def uploads(self) -> AsyncUploadClient:
        """The uploads of the service."""
        return AsyncUploadClient(self)

    @property
    def datasets(self) -> AsyncDatasetClient:
        """The datasets of the service."""
        return AsyncDatasetClient(self)

    def review(self, job_id: str) -> AsyncReviewClient:
        """Return the client of the review of a job's pseudo-labels."""
        return AsyncReviewClient(self, job_id)

    async def stream(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield the job's events as they happen, until the job ends.

        A broken connection resumes where it was.
        """
        retry = self._repeats()
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            try:
                async with self._http.stream("GET", job_path(job_id, "stream"), headers=headers) as answer:
                    await _raise_problem(answer)
                    if answer.status_code == NOTHING_FOLLOWS:
                        return
                    retry = self._repeats()
                    async for message in httpx.EventSource(answer):
                        if message.event == "end":
                            return
                        if message.data:
                            event: Event = json.loads(message.data)
                            after = max(after, event["seq"])
                            yield event
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.pause_after(error))

    async def carry_out(self, steps: Steps[Answer]) -> Answer:
        """Do what the *steps* ask for, one after the other; return their answer."""
        try:
            step = next(steps)
            while True:
                try:
                    found = await self._do(step)
                except Exception as error:  # noqa: BLE001 - the steps may know what to do about it
                    step = steps.throw(error)
                else:
                    step = steps.send(found)
        except StopIteration as ended:
            answer: Answer = ended.value
            return answer

    async def each(self, listing: Listing[Answer]) -> AsyncIterator[Answer]:
        """Yield the values of a *listing*."""
        page = None
        while True:
            try:
                step = listing.send(page)
            except StopIteration:
                return
            page = None
            if isinstance(step, Found):
                yield step.value
            else:
                page = await self._do(step)

    async def _do(self, step: Step) -> Any:
        match step:
            case Call():
                return step.read(await self._send(step))
            case Pause():
                await asyncio.sleep(step.seconds)
            case Together():
                await self._together(step)
            case Fetch():
                await self._fetch(step)
            case Local():
                return await asyncio.to_thread(step.do)
        return None

    async def _together(self, step: Together) -> None:
        places = iter(enumerate(step.calls))

        async def some() -> None:
            for place, call in places:
                await self._send(call)
                step.ended(place)

        sending = [asyncio.ensure_future(some()) for _ in range(step.at_a_time)]
        try:
            await asyncio.gather(*sending)
        finally:
            for each in sending:
                each.cancel()

    async def _fetch(self, wanted: Fetch) -> None:
        path = wanted.path
        part = Partial.promised(path, (await self._send(Call("HEAD", wanted.url))).headers)
        if await asyncio.to_thread(lambda: path.is_file() and part.sha256 == sha256_of(path)):
            return
        retry = self._repeats()
        while part.missing:
            try:
                async with self._http.stream("GET", wanted.url, headers=part.request_headers()) as answer:
                    await _raise_problem(answer)
                    status = answer.status_code
                    async for piece in answer.aiter_bytes():
                        for size in part.receive(status, (piece,)):
                            status, retry = _PARTIAL, self._repeats()
                            if wanted.progress:
                                wanted.progress(size, part.size_bytes)
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.pause_after(error))
        if not await asyncio.to_thread(part.finish):
            raise damaged(path)

    def _repeats(self) -> Repeats:
        return Repeats(self.url, self.patience_s, repeatable=True)

    async def _send(self, call: Call[Any]) -> httpx.Response:
        """Send a request, again where that is safe, until it is answered or patience ends."""
        retry = repeats_of(call, self.url, self.patience_s)
        while True:
            try:
                content: Json = {} if call.body is None else {"content": await asyncio.to_thread(call.body)}
                answer = await self._http.request(call.method, call.path, **call.options, **content)
                raise_problem_of(answer)
            except (httpx.TransportError, ClientError) as error:
                await asyncio.sleep(retry.pause_after(error))
            else:
                return answer


async def _raise_problem(answer: httpx.Response) -> None:
    if answer.status_code >= 400:
        await answer.aread()
    raise_problem_of(answer)
