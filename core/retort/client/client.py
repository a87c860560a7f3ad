"""The HTTP client: submits jobs, follows them and fetches what they make."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2 as httpx

from retort.client.answers import Event
from retort.client.calls import Call, Fetch, Found, Json, Listing, Local, Pause, Step, Steps, Together
from retort.client.credentials import is_loopback
from retort.client.datasets import DatasetClient
from retort.client.download import Partial, damaged
from retort.client.job_calls import JobCalls, job_path
from retort.client.keeping import KeepingCalls
from retort.client.key_calls import KeyCalls
from retort.client.model_calls import ModelCalls
from retort.client.operations import Blocking
from retort.client.repeats import Repeats, repeats_of
from retort.client.reviews import ReviewClient
from retort.client.service_calls import ServiceCalls
from retort.client.sweep_calls import SweepCalls
from retort.client.transport import NOTHING_FOLLOWS, ClientError, connection, raise_problem
from retort.client.uploads import UploadClient
from retort.client.webhooks import WebhooksClient
from retort.files import sha256_of

_FIRST_PATIENCE_S = 2.0
"""A service that has never answered is more likely misspelt than restarting."""
Answer = TypeVar("Answer")


class Client(Blocking, JobCalls, SweepCalls, ModelCalls, KeepingCalls, KeyCalls, ServiceCalls):
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
        self._http = httpx.Client(**connection(self.url, key=key, timeout_s=timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of the client."""
        self._http.close()

    @property
    def webhooks(self) -> WebhooksClient:
        """The client of the project's webhooks."""
        return WebhooksClient(self)

    @property
    def uploads(self) -> UploadClient:
        """The uploads of the service."""
        return UploadClient(self)

    @property
    def datasets(self) -> DatasetClient:
        """The datasets of the service."""
        return DatasetClient(self)

    def review(self, job_id: str) -> ReviewClient:
        """Return the client of the review of a job's pseudo-labels."""
        return ReviewClient(self, job_id)

    def stream(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """Yield the job's events as they happen, until the job ends.

        A broken connection resumes where it was.
        """
        retry = self._repeats()
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            try:
                with self._http.stream("GET", job_path(job_id, "stream"), headers=headers) as answer:
                    raise_problem(answer)
                    if answer.status_code == NOTHING_FOLLOWS:
                        return
                    retry = self._repeats()
                    for message in httpx.EventSource(answer):
                        if message.event == "end":
                            return
                        if message.data:  # else the service tells the time to wait before a reconnect
                            event: Event = json.loads(message.data)
                            after = max(after, event["seq"])
                            yield event
            except (httpx.TransportError, ClientError) as error:
                time.sleep(retry.pause_after(error))

    def carry_out(self, steps: Steps[Answer]) -> Answer:
        """Do what the *steps* ask for, one after the other; return their answer."""
        try:
            step = next(steps)
            while True:
                try:
                    found = self._do(step)
                except Exception as error:  # noqa: BLE001 - the steps may know what to do about it
                    step = steps.throw(error)
                else:
                    step = steps.send(found)
        except StopIteration as ended:
            answer: Answer = ended.value
            return answer

    def each(self, listing: Listing[Answer]) -> Iterator[Answer]:
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
                page = self._do(step)

    def _do(self, step: Step) -> Any:
        match step:
            case Call():
                return step.read(self._send(step))
            case Pause():
                time.sleep(step.seconds)
            case Together():
                self._together(step)
            case Fetch():
                self._fetch(step)
            case Local():
                return step.do()
        return None

    def _together(self, step: Together) -> None:
        with ThreadPoolExecutor(step.at_a_time) as pool:
            sending = {pool.submit(self._send, call): place for place, call in enumerate(step.calls)}
            try:
                for ended in as_completed(sending):
                    ended.result()
                    step.ended(sending[ended])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _fetch(self, wanted: Fetch) -> None:
        part = Partial.promised(wanted.path, self._send(Call("HEAD", wanted.url)).headers)
        if wanted.path.is_file() and part.sha256 == sha256_of(wanted.path):
            return
        retry = self._repeats()
        while part.missing:
            try:
                with self._http.stream("GET", wanted.url, headers=part.request_headers()) as answer:
                    raise_problem(answer)
                    for size in part.receive(answer.status_code, answer.iter_bytes()):
                        retry = self._repeats()
                        if wanted.progress:
                            wanted.progress(size, part.size_bytes)
            except (httpx.TransportError, ClientError) as error:
                time.sleep(retry.pause_after(error))
        if not part.finish():
            raise damaged(wanted.path)

    def _repeats(self) -> Repeats:
        return Repeats(self.url, self.patience_s, repeatable=True)

    def _send(self, call: Call[Any]) -> httpx.Response:
        """Send a request, again where that is safe, until it is answered or patience ends."""
        retry = repeats_of(call, self.url, self.patience_s)
        while True:
            try:
                content: Json = {} if call.body is None else {"content": call.body()}
                answer = self._http.request(call.method, call.path, **call.options, **content)
                self.patience_s = self._patience_when_known_s
                raise_problem(answer)
            except (httpx.TransportError, ClientError) as error:
                time.sleep(retry.pause_after(error))
            else:
                return answer
