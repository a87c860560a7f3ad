"""Batch concurrent requests into one database transaction, and cache rendered responses."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from retort.db import DatabaseUnavailable
from starlette.concurrency import run_in_threadpool

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Batcher of concurrent requests: one transaction for all that wait.

    Requests that arrive while a batch runs form the next batch. A transaction costs the same for one request as for
    twenty, and so does a query: many clients that watch their jobs cost little more than one. No answer is older than
    its question.

    Args:
        work: does all it is given in one transaction, in a thread, and returns what to answer to each, in the same
            order; an answer that is an exception is raised to the one who asked.

    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result | Exception]]) -> None:
        self._work = work
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._working: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Return once it is done.

        Raises:
            DatabaseUnavailable: as ``Database.begin`` does; then this holds for all that was done together.
            Exception: what *work* answered or raised.

        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._working is None:
            self._working = asyncio.create_task(self._run_batches())
        return await future

    async def _run_batches(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                results = await run_in_threadpool(self._run_batch, [item for item, _ in batch])
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():
                        continue  # whoever asked has gone
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._working = None

    def _run_batch(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return self._work(items)
        except DatabaseUnavailable as error:  # it may have been written all the same: nobody may write it again
            return [DatabaseUnavailable(error.message) for _ in items]
        except Exception as error:  # noqa: BLE001 - it is raised to the one who asked
            if len(items) == 1:
                return [error]
            # One of them cannot be done, so nothing was.
            return [result for item in items for result in self._run_batch([item])]


_MOST = 256


class ResponseCache:
    """Response bytes of the most recently requested jobs, at their latest version."""

    def __init__(self) -> None:
        self._shown: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, job_id: str, version: str) -> bytes | None:
        """Return the cached response of a job, if it has that *version*."""
        with self._lock:
            kept_version, shown = self._shown.get(job_id, ("", b""))
            if kept_version != version:
                return None
            self._shown.move_to_end(job_id)
            return shown

    def put(self, job_id: str, version: str, shown: bytes) -> None:
        """Cache the response bytes of one *version* of a job.

        A newer version replaces them; the least recently requested jobs are dropped.
        """
        with self._lock:
            self._shown[job_id] = version, shown
            self._shown.move_to_end(job_id)
            while len(self._shown) > _MOST:
                self._shown.popitem(last=False)
