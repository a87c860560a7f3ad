"""What is asked at a time is done together, and each hears of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from retort.db import Database, DatabaseUnavailable, jobs
from retort.db.idempotency import IdempotencyKey
from retort.db.session import database_now
from retort.spec import parse_spec
from retort_api.batching import Batcher
from support.api_harness import SPEC
from support.db_harness import Shop

Heard = list[str | BaseException]


class Book:
    """Notes what it is told; the first page is held until *release*."""

    def __init__(self) -> None:
        self.pages: list[list[str]] = []
        self.writing, self.release = threading.Event(), threading.Event()

    def write(self, asks: Sequence[str]) -> list[str | Exception]:
        self.writing.set()
        assert self.release.wait(10)
        if "torn" in asks:
            raise ValueError("torn")
        if "drowned" in asks:
            raise DatabaseUnavailable("away")
        self.pages.append(list(asks))
        return [KeyError(ask) if ask == "refused" else ask.upper() for ask in asks]


async def asked_while_another_is_written(asks: list[str], *, leaving: int = 0) -> tuple[Book, Heard]:
    """Ask while a first one is being written; the first *leaving* do not wait. Return what each heard."""
    book = Book()
    together = Batcher(book.write)
    first = asyncio.create_task(together("first"))
    await asyncio.to_thread(book.writing.wait, 10)
    tasks = [asyncio.create_task(together(ask)) for ask in asks]
    await asyncio.sleep(0)
    for task in tasks[:leaving]:
        task.cancel()
    book.release.set()
    assert await first == "FIRST"
    return book, await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)


def test_those_who_wait_are_served_together_and_each_gets_its_own_answer():
    book, heard = asyncio.run(asked_while_another_is_written(["a", "b", "c"]))
    assert book.pages == [["first"], ["a", "b", "c"]]
    assert heard == ["A", "B", "C"]


def test_one_that_is_refused_hinders_no_other():
    book, heard = asyncio.run(asked_while_another_is_written(["a", "refused", "c"]))
    assert book.pages == [["first"], ["a", "refused", "c"]]
    assert [heard[0], heard[2]] == ["A", "C"]
    assert isinstance(heard[1], KeyError)


def test_one_that_cannot_be_done_is_told_alone():
    book, heard = asyncio.run(asked_while_another_is_written(["a", "torn", "c"]))
    assert book.pages == [["first"], ["a"], ["c"]]
    assert [heard[0], heard[2]] == ["A", "C"]
    assert isinstance(heard[1], ValueError)


def test_nothing_that_may_have_been_written_is_written_again():
    book, heard = asyncio.run(asked_while_another_is_written(["a", "drowned"]))
    assert book.pages == [["first"]]
    assert all(isinstance(one, DatabaseUnavailable) for one in heard)
    assert heard[0] is not heard[1], "each has a traceback of its own"


def test_one_who_leaves_keeps_nobody_waiting():
    _, heard = asyncio.run(asked_while_another_is_written(["gone", "b"], leaving=1))
    assert isinstance(heard[0], asyncio.CancelledError)
    assert heard[1] == "B"


def test_it_serves_one_loop_after_another():
    book = Book()
    book.release.set()
    together = Batcher(book.write)
    assert [asyncio.run(together("a")), asyncio.run(together("b"))] == ["A", "B"]


def test_submissions_at_a_time_are_jobs_of_their_own_and_the_same_key_is_one(database: Database):
    shop = Shop(database, parse_spec(SPEC))

    def write(submissions: Sequence[jobs.Submission]) -> Sequence[jobs.SubmittedJob | Exception]:
        with database.begin() as session:
            return jobs.submit_all(session, submissions, now=database_now(session))

    def asked(number: int) -> jobs.Submission:
        key, body = ("k", "b" * 64) if number % 2 else (None, None)
        body = "c" * 64 if number == 5 else body
        return jobs.Submission(spec=shop.spec, retries=1, key=key and IdempotencyKey(key, request_sha256=body))

    async def submit_all() -> list[jobs.SubmittedJob | BaseException]:
        together = Batcher(write)
        first = await together(asked(1))
        others = [together(asked(number)) for number in range(8)]
        return [first, *await asyncio.gather(*others, return_exceptions=True)]

    shop.queued()
    answers = asyncio.run(submit_all())
    told = [answer for answer in answers if isinstance(answer, jobs.SubmittedJob)]
    assert [type(answer) for answer in answers if not isinstance(answer, jobs.SubmittedJob)] == [jobs.KeyReused]
    assert sum(answer.created for answer in told) == 5
    assert len({answer.job_id for answer in told}) == 5
    made = {row["id"] for row in shop.rows("jobs")["jobs"]}
    assert {answer.job_id for answer in told} < made
    assert len(made) == 6
    for job_id in made:
        assert [(event["seq"], event["type"]) for event in shop.events(job_id)] == [(1, "state")]
