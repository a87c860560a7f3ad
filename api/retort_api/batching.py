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
    """Does what is asked while something is being done in one go after that, for all who asked.

    A transaction costs the same for one as for twenty, and so does a look at the database: many clients that watch
    their jobs cost little more than one. No answer is older than its question.

    Args:
        work: does all it is given in one transaction, in a thread, and returns what to answer to each, in the same
            order; an answer that is an exception is raised to the one who asked.

    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result | Exception]]) -> None:
        self._work = work
        self._asked: list[tuple[Item, asyncio.Future[Result]]] = []
        self._working: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Return once it is done.

        Raises:
            DatabaseUnavailable: as ``Database.begin`` does; then this holds for all that was done together.
            Exception: what *work* answered or raised.

        """
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._asked.append((item, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._run_batches())
        return await answer

    async def _run_batches(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, []
                heard = await run_in_threadpool(self._run_batch, [ask for ask, _ in asked])
                for (_, answer), word in zip(asked, heard, strict=True):
                    if answer.done():
                        continue  # whoever asked has gone
                    if isinstance(word, Exception):
                        answer.set_exception(word)
                    else:
                        answer.set_result(word)
        finally:
            self._working = None

    def _run_batch(self, asks: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return self._work(asks)
        except DatabaseUnavailable as error:  # it may have been written all the same: nobody may write it again
            return [DatabaseUnavailable(error.message) for _ in asks]
        except Exception as error:  # noqa: BLE001 - it is raised to the one who asked
            if len(asks) == 1:
                return [error]
            # One of them cannot be done, so nothing was.
            return [word for ask in asks for word in self._run_batch([ask])]


_MOST = 256


class ResponseCache:
    """The latest version of each of the jobs asked for most recently, as the bytes of an answer."""

    def __init__(self) -> None:
        self._shown: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, job_id: str, version: int) -> bytes | None:
        """Return that version of the job, if it was the last that was shown."""
        with self._lock:
            kept_version, shown = self._shown.get(job_id, (0, b""))
            if kept_version != version:
                return None
            self._shown.move_to_end(job_id)
            return shown

    def put(self, job_id: str, version: int, shown: bytes) -> None:
        """Keep *shown* until there is a newer version, or others are asked for."""
        with self._lock:
            self._shown[job_id] = version, shown
            self._shown.move_to_end(job_id)
            while len(self._shown) > _MOST:
                self._shown.popitem(last=False)
