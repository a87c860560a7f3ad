"""What a run says is written down once, in order, all or nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from results import RESULT
from retort.constants import MAP, MAP50, Role
from retort.db import Lease, Renewal, events, jobs, transitions
from retort.protocol.events import (
    EVENT,
    AnyEvent,
    ArtifactEvent,
    CheckpointEvent,
    FailedEvent,
    FinishedEvent,
    HealthEvent,
    LogEvent,
    MetricEvent,
    ProgressEvent,
    RunFailure,
    StageEvent,
    StoppedEvent,
)
from retort.states import JobState
from support.db_harness import T0, Shop, at_once


def record(
    shop: Shop, lease: Lease, said: Sequence[AnyEvent], *, offset: int = 10, attempt: int | None = None, now: float = T0
) -> Renewal | None:
    with shop.database.begin() as session:
        return events.record(session, lease, said, now=now, lease_s=30, journal_offset=offset, attempt=attempt)


def metric(n: int, step: int, score: float | None, role: Role = Role.STUDENT) -> MetricEvent:
    return MetricEvent(n=n, at=float(n), role=role, step=step, values={MAP50: score, MAP: score})


def everything() -> list[AnyEvent]:
    return [
        StageEvent(n=1, at=1.5, stage="distill"),
        ProgressEvent(n=2, at=2.0, progress=0.25, eta_s=60.0),
        metric(3, 1, 0.5),
        CheckpointEvent(n=4, at=4.0, role=Role.STUDENT, epoch=1, path="c/1.pt", metrics={MAP: 0.5}),
        LogEvent(n=5, at=5.0, level="warning", message="slow", data={"disk": "sda"}),
        ArtifactEvent(n=6, at=6.0, name="student.pt", role=Role.STUDENT, path="artifacts/student.pt"),
        StoppedEvent(n=7, at=7.0),
    ]


def test_a_verdict_is_as_loud_as_it_is_bad(shop: Shop):
    lease = shop.running()
    told = {"rule": "loss_exploding", "epoch": 3, "message": "it rose", "cause": "c", "advice": "a"}
    said = [
        HealthEvent(n=n, at=1.0, verdict=verdict, values={"train/loss": None}, **told)
        for n, verdict in enumerate(("critical", "warning", "healthy"), start=1)
    ]
    record(shop, lease, said)

    rows = shop.rows()["events"][-3:]
    assert [(row["type"], row["level"], row["message"]) for row in rows] == [
        ("health", "error", "it rose"), ("health", "warning", "it rose"), ("health", "info", "it rose"),
    ]  # fmt: skip
    assert rows[0]["data"] == {
        "rule": "loss_exploding", "verdict": "critical", "epoch": 3, "cause": "c", "advice": "a",
        "values": {"train/loss": None},
    }  # fmt: skip


def test_one_transaction_writes_events_points_stages_the_job_and_the_offset(shop: Shop):
    lease = shop.running()
    renewal = record(shop, lease, everything(), offset=700, now=T0 + 5)

    job, rows = shop.job(lease.job_id), shop.rows()
    assert renewal == Renewal(8, JobState.RUNNING)
    assert (job.stage, job.progress, job.eta_s, job.lease_until, job.last_seq) == ("distill", 0.25, 60.0, T0 + 35, 8)
    assert job.best == {"role": "student", "epoch": 1, MAP50: 0.5, MAP: 0.5}
    told = [(row["seq"], row["n"], row["type"], row["at"]) for row in rows["events"]][2:]
    assert told == [
        (3, 1, "stage", 1.5), (4, 2, "progress", 2.0), (5, 3, "metric", 3.0), (6, 4, "checkpoint", 4.0),
        (7, 5, "log", 5.0), (8, 7, "stopped", 7.0),
    ]  # fmt: skip
    log = rows["events"][6]
    assert (log["level"], log["message"], log["data"]) == ("warning", "slow", {"disk": "sda"})
    assert rows["events"][4]["data"] == {"role": "student", "step": 1, "values": {MAP50: 0.5, MAP: 0.5}}
    assert len(rows["metrics"]) == 2
    assert rows["transitions"][-1] | {"id": 0} == {
        "id": 0, "job_id": lease.job_id, "kind": "stage", "name": "distill", "at": 1.5, "actor": "worker:w1",
        "reason": None, "attempt": 1,
    }  # fmt: skip
    assert rows["attempts"][0]["journal_offset"] == 700


def test_lines_that_are_recorded_already_are_ignored(shop: Shop):
    lease = shop.running()
    record(shop, lease, everything(), offset=700)
    before = shop.rows()
    record(shop, lease, everything(), offset=700)
    assert shop.rows() == before


def test_lines_sent_again_and_again_in_any_cut_are_recorded_once_each_and_in_order(shop: Shop):
    lease, dice = shop.running(), random.Random(7)
    journal = [metric(n, n, n / 100) for n in range(1, 41)]
    known = 0
    while known < len(journal):
        first = dice.randint(max(0, known - 10), known)  # a worker that crashed reads again from an older offset
        last = min(len(journal), first + dice.randint(1, 8))
        record(shop, lease, journal[first:last] * dice.randint(1, 2), offset=last)
        known = max(known, last)

    rows = shop.rows()
    assert [row["n"] for row in rows["events"] if row["n"] is not None] == list(range(1, 41))
    assert [row["seq"] for row in rows["events"]] == list(range(1, 43))
    assert sorted(row["step"] for row in rows["metrics"] if row["name"] == MAP) == list(range(1, 41))
    assert rows["attempts"][0]["journal_offset"] == 40


def test_an_exception_inside_the_transaction_leaves_nothing(shop: Shop):
    lease = shop.running()
    before = shop.rows()
    with shop.doomed() as session:
        events.record(session, lease, everything(), now=T0, lease_s=30, journal_offset=700)
        transitions.succeed(session, lease, now=T0, result=RESULT)
    assert shop.rows() == before


def test_the_offset_of_a_journal_never_goes_back(shop: Shop):
    lease = shop.running()
    record(shop, lease, everything(), offset=700)
    record(shop, lease, [], offset=300)
    assert shop.rows("attempts")["attempts"][0]["journal_offset"] == 700


def test_only_what_a_reader_of_the_job_sees_makes_a_new_version(shop: Shop):
    lease = shop.running()
    versions = [shop.job(lease.job_id).version]
    said: list[list[AnyEvent]] = [
        [LogEvent(n=1, at=1.0, message="x")],
        [StageEvent(n=2, at=1.0, stage="distill")],
        [metric(3, 1, 0.5)],
        [metric(4, 2, 0.4)],
        [ProgressEvent(n=5, at=1.0, progress=0.5)],
    ]
    for batch in said:
        record(shop, lease, batch)
        versions.append(shop.job(lease.job_id).version)
    assert [after - before for before, after in pairwise(versions)] == [0, 1, 1, 0, 1]


def test_best_is_the_students_highest_map(shop: Shop):
    lease = shop.running()
    scores = [0.1, None, 0.3, 0.2]
    record(shop, lease, [metric(n, n, score) for n, score in enumerate(scores, 1)])
    record(shop, lease, [metric(5, 9, 0.9, Role.CONTROL), metric(6, 9, 0.9, Role.TEACHER), metric(7, 5, 0.25)])
    assert shop.job(lease.job_id).best == {"role": "student", "epoch": 3, MAP50: 0.3, MAP: 0.3}


def test_the_end_of_an_earlier_attempts_journal_is_recorded_under_the_present_lease(shop: Shop, retryable: RunFailure):
    first = shop.running()
    record(shop, first, [StageEvent(n=1, at=1.0, stage="distill"), metric(2, 1, 0.1)], offset=20)
    with shop.database.begin() as session:
        transitions.fail(session, first, now=T0, failure=retryable, exit_code=-9)
    second = shop.claimed(first.job_id, worker="w2", now=T0 + 100)
    record(shop, second, [StageEvent(n=1, at=9.0, stage="evaluate")], offset=5)

    rest = [StageEvent(n=3, at=2.0, stage="control"), ProgressEvent(n=4, at=2.0, progress=0.9), metric(5, 2, 0.2)]
    assert record(shop, second, rest, offset=60, attempt=1) is not None

    job, rows = shop.job(first.job_id), shop.rows()
    assert (job.stage, job.progress, job.best["epoch"]) == ("evaluate", 0.0, 2)
    assert {(row["attempt"], row["step"]) for row in rows["metrics"]} == {(1, 1), (1, 2)}
    assert [(row["number"], row["journal_offset"]) for row in rows["attempts"]] == [(1, 60), (2, 5)]
    assert [row["seq"] for row in rows["events"]] == list(range(1, job.last_seq + 1))


def test_numbers_have_no_gaps_when_worker_reader_and_client_write_at_the_same_time(shop: Shop):
    lease = shop.running()

    def write(number: int) -> None:
        with shop.database.begin() as session:
            if number == 3:
                jobs.cancel(session, lease.job_id, now=T0, actor="client")
            elif number % 2:
                events.log(session, lease, f"from {number}", "info", T0)
            else:
                events.record(session, lease, [metric(number + 1, 1, 0.1)], now=T0, lease_s=30, journal_offset=1)

    assert at_once(write, 12) == [None] * 12
    assert [row["seq"] for row in shop.events(lease.job_id)] == list(range(1, 15))
    assert shop.job(lease.job_id).last_seq == 14


def test_readers_follow_events_by_number(shop: Shop):
    lease = shop.running()
    record(shop, lease, everything())
    with shop.database.read() as session:
        assert [row.seq for row in events.list_after(session, lease.job_id, 0, 3)] == [1, 2, 3]
        assert [row.seq for row in events.list_after(session, lease.job_id, 6, 100)] == [7, 8]
        assert events.list_after(session, lease.job_id, 8, 100) == []


def test_text_that_a_database_would_refuse_is_recorded_all_the_same(shop: Shop):
    lease = shop.running()
    line = b'{"type": "log", "n": 1, "at": 1.0, "message": "a\\u0000b", "data": {"loss": NaN, "text": "\\u0000"}}'
    record(shop, lease, [EVENT.validate_json(line)])
    with shop.database.begin() as session:
        assert events.log(session, lease, "half \ud800 a pair", "error", T0)
    first, second = shop.events(lease.job_id)[2:]
    assert (first["message"], first["data"]) == ("a\N{REPLACEMENT CHARACTER}b", {"loss": None, "text": "\0"})
    assert second["message"] == "half ? a pair"


def test_the_last_words_of_a_run_are_recorded(shop: Shop):
    lease = shop.running()
    failure = RunFailure(code="diverged", message="NaN")
    record(shop, lease, [FailedEvent(n=1, at=1.0, failure=failure), FinishedEvent(n=2, at=1.0, result=RESULT)])
    failed, finished = shop.events(lease.job_id)[2:]
    assert failed["data"]["failure"]["code"] == "diverged"
    assert finished["data"] == {}, "the result is on the job"
