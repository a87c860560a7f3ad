"""Writes that come at a time go into one transaction, and each hears of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from retort.db import DatabaseUnavailable, clock, jobs, keys
from retort.db.together import GroupCommit
from shop import Shop, at_once


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


def written_while_another_writes(asks: list[str]) -> tuple[Book, list[str | Exception]]:
    """Let *asks* come while a first one is being written; return what each heard."""
    book = Book()
    group: GroupCommit[str, str] = GroupCommit(book.write)
    heard: list[str | Exception] = [""] * len(asks)

    def ask(number: int) -> None:
        try:
            heard[number] = group(asks[number])
        except Exception as error:  # noqa: BLE001 - it is what was heard
            heard[number] = error

    threads = [threading.Thread(target=group, args=("first",))]
    threads[0].start()
    assert book.writing.wait(10)
    for number in range(len(asks)):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
        while len(group._waiting) <= number:
            pass
    book.release.set()
    for thread in threads:
        thread.join(10)
    return book, heard


def test_those_who_wait_are_written_together_and_each_gets_its_own_answer():
    book, heard = written_while_another_writes(["a", "b", "c"])
    assert book.pages == [["first"], ["a", "b", "c"]]
    assert heard == ["A", "B", "C"]


def test_one_that_is_refused_hinders_no_other():
    book, heard = written_while_another_writes(["a", "refused", "c"])
    assert book.pages == [["first"], ["a", "refused", "c"]]
    assert [heard[0], heard[2]] == ["A", "C"]
    assert isinstance(heard[1], KeyError)


def test_one_that_cannot_be_written_is_told_alone():
    book, heard = written_while_another_writes(["a", "torn", "c"])
    assert book.pages == [["first"], ["a"], ["c"]]
    assert [heard[0], heard[2]] == ["A", "C"]
    assert isinstance(heard[1], ValueError)


def test_nothing_that_may_have_been_written_is_written_again():
    book, heard = written_while_another_writes(["a", "drowned"])
    assert book.pages == [["first"]]
    assert all(isinstance(one, DatabaseUnavailable) for one in heard)
    assert heard[0] is not heard[1], "each has a traceback of its own"


def test_submissions_at_a_time_are_jobs_of_their_own_and_the_same_key_is_one(shop: Shop):
    def write(submissions: Sequence[jobs.Submission]) -> Sequence[jobs.Submitted | Exception]:
        with shop.database.begin() as session:
            return jobs.submit_all(session, submissions, now=clock.now(session))

    group: GroupCommit[jobs.Submission, jobs.Submitted] = GroupCommit(write)

    def submit(number: int) -> jobs.Submitted | Exception:
        key, body = ("k", "b" * 64) if number % 2 else (None, None)
        if number == 5:
            body = "c" * 64
        try:
            return group(jobs.Submission(spec=shop.spec, retries=1, key=key, body_sha256=body))
        except keys.KeyReused as error:
            return error

    shop.queued()
    first = submit(1)
    answers = [first, *at_once(submit, 8)]

    refused = [answer for answer in answers if isinstance(answer, Exception)]
    told = [answer for answer in answers if isinstance(answer, jobs.Submitted)]
    assert len(refused) == 1
    assert sum(answer.created for answer in told) == 5
    assert len({answer.job_id for answer in told}) == 5
    made = {row["id"] for row in shop.rows("jobs")["jobs"]}
    assert {answer.job_id for answer in told} < made
    assert len(made) == 6
    for job_id in made:
        assert [(event["seq"], event["type"]) for event in shop.events(job_id)] == [(1, "state")]


@pytest.mark.parametrize("count", [0, 1, 30])
def test_many_submissions_in_one_transaction_are_as_many_jobs(shop: Shop, count: int):
    with shop.database.begin() as session:
        given = [jobs.Submission(spec=shop.spec, retries=1, priority=number) for number in range(count)]
        outcomes = jobs.submit_all(session, given, now=clock.now(session))
    told = [outcome for outcome in outcomes if isinstance(outcome, jobs.Submitted)]
    assert [shop.job(one.job_id).priority for one in told] == list(range(count))
