"""Where jobs stand, read together for all who ask at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from retort.db import Database, DatabaseUnavailable, jobs
from starlette.concurrency import run_in_threadpool

_Answers = list["asyncio.Future[jobs.Standing]"]


class Standings:
    """Whoever asks while others are being answered is answered by the next look at the database, with all who do so.

    Many clients that watch their jobs thus cost little more than one. No answer is older than its question.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: dict[str, _Answers] = {}
        self._answering: asyncio.Task[None] | None = None

    async def of(self, job_id: str) -> jobs.Standing:
        """Return where the job stands.

        Raises:
            JobNotFound: there is no such job.
            DatabaseUnavailable: try again later.

        """
        answer: asyncio.Future[jobs.Standing] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(job_id, []).append(answer)
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer_all())
        return await answer

    async def _answer_all(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                await self._answer(asked)
        finally:
            self._answering = None

    async def _answer(self, asked: dict[str, _Answers]) -> None:
        found: dict[str, jobs.Standing] = {}
        failure: Exception | None = None
        try:
            found = await run_in_threadpool(self._look, list(asked))
        except Exception as error:  # noqa: BLE001 - it is raised to those who asked
            failure = error
        for job_id, answers in asked.items():
            for answer in answers:
                if answer.done():
                    continue  # whoever asked has gone
                if job_id in found:
                    answer.set_result(found[job_id])
                elif failure is None:
                    answer.set_exception(jobs.JobNotFound(f"there is no job {job_id}"))
                else:
                    answer.set_exception(_own(failure))

    def _look(self, job_ids: Sequence[str]) -> dict[str, jobs.Standing]:
        with self._database.glance() as session:
            return jobs.standings(session, job_ids)


def _own(error: Exception) -> Exception:
    """Return an error for one of those who hear of it: where it is raised it collects where it passed."""
    return DatabaseUnavailable(error.message) if isinstance(error, DatabaseUnavailable) else error
