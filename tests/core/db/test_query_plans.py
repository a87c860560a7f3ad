"""The statements that run all the time go through an index: their cost does not grow with the number of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from results import RESULT
from retort.constants import MAP, Role
from retort.db import Database, artifacts, events, job_list, jobs, metrics, queue, sweeps, transitions
from retort.db.job_list import JobFilter, Place
from retort.db.transitions import Lease
from retort.protocol.events import MetricEvent, RunFailure, StageEvent
from retort.spec import JobSpec, parse_sweep
from retort.states import JobState
from retort.sweeps.planner import decide
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

FILE = artifacts.NewArtifact("a", "job", "", 1, "", "")
FAILURE = RunFailure(code="x", message="x", retryable=True)
SAID = [StageEvent(n=1, at=0, stage="x"), MetricEvent(n=2, at=0, role=Role.STUDENT, step=1, values={MAP: 0.5})]
HOT: dict[str, Callable[[Session, Lease], Any]] = {
    "claimable": lambda s, _: queue.claimable(s, now=0),
    "claimable for few GPUs": lambda s, _: queue.claimable(s, now=0, gpus=1),
    "claimable on a CPU": lambda s, _: queue.claimable(s, now=0, on_cpu="unless_gpu_required"),
    "claim": lambda s, o: queue.claim(s, o.job_id, worker="w", host="h", now=0, lease_s=1),
    "renew": lambda s, o: jobs.renew(s, o, now=0, lease_s=1),
    "record": lambda s, o: events.record(s, o, SAID, now=0, lease_s=1, journal_offset=1),
    "publish": lambda s, o: artifacts.record(s, o, FILE, now=0),
    "succeed": lambda s, o: transitions.succeed(s, o, now=0, result=RESULT),
    "fail": lambda s, o: transitions.fail(s, o, now=0, failure=FAILURE, exit_code=1),
    "pause": lambda s, o: jobs.pause(s, o.job_id, now=0, actor="client"),
    "expire": lambda s, _: queue.expire(s, now=100),
    "oldest queued": lambda s, _: jobs.oldest_queued(s),
    "forget what was saved": lambda s, _: artifacts.forget_old_recovery(s, before=100, succeeded_before=100),
    "what nobody can go on with": lambda s, o: artifacts.without_recovery(s, [o.job_id]),
    "states": lambda s, o: jobs.states(s, [o.job_id]),
    "cancel": lambda s, o: jobs.cancel(s, o.job_id, now=0, actor="client"),
    "reap": lambda s, _: queue.reap(s, now=100),
    "page": lambda s, o: job_list.page(s, after=Place(o.job_id, o.job_id)),
    "page of states": lambda s, o: job_list.page(
        s, JobFilter(states=(JobState.QUEUED, JobState.FAILED)), after=Place(o.job_id, o.job_id)
    ),
    "get": lambda s, o: jobs.get(s, o.job_id),
    "events": lambda s, o: events.list_after(s, o.job_id, 10, 100),
    "warnings": lambda s, o: events.latest(
        s, o.job_id, events.EventFilter(types=("log",), levels=("warning", "error")), 3
    ),
    "series": lambda s, o: metrics.series(s, o.job_id),
    "one series": lambda s, o: metrics.series(s, o.job_id, role="student", name=MAP, after_step=3),
    "attempts": lambda s, o: jobs.attempts_of_job(s, o.job_id),
    "transitions": lambda s, o: jobs.transitions_of_job(s, o.job_id),
    "artifacts": lambda s, o: artifacts.of_job(s, o.job_id),
    "live sweeps": lambda s, _: sweeps.live(s),
    "pulse of a sweep": lambda s, o: sweeps.fingerprint(s, sweep_of(s, o)),
    "look at a sweep": lambda s, o: sweeps.load(s, sweep_of(s, o)),
    "page of sweeps": lambda s, o: sweeps.page(s, after=sweep_of(s, o)),
    "trials": lambda s, o: sweeps.trials(s, sweep_of(s, o)),
    "counts of trials": lambda s, o: sweeps.counts(s, [sweep_of(s, o)]),
    "best trials": lambda s, o: sweeps.bests(s, [sweep_of(s, o)]),
    "cancel a sweep": lambda s, o: sweeps.cancel(s, sweep_of(s, o), now=0, actor="client"),
}


def sweep_of(session: Session, lease: Lease) -> str:
    """Submit a sweep and begin its trials."""
    base = {**jobs.get(session, lease.job_id).spec, "name": "a"}
    parameters = {"training.epochs": {"values": [1, 2]}}
    search = {"strategy": "grid"}
    spec = parse_sweep({"name": "a", "base": base, "parameters": parameters, "search": search, "concurrency": 2})
    sweep_id = sweeps.submit(session, spec, now=0, retries=0).sweep_id
    standing = sweeps.load(session, sweep_id)
    decision = decide(standing.spec, standing.state, standing.trials)
    assert sweeps.apply(session, standing, decision, now=0)
    return sweep_id


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    with closing(Database(sqlite_url)) as database:
        yield database


@pytest.mark.parametrize("name", HOT)
def test_no_table_is_read_from_end_to_end(database: Database, spec: JobSpec, name: str):
    ran: list[tuple[str, Any]] = []

    def note(_c: Connection, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        ran.append((statement, parameters))

    with database.begin() as session:
        job_id = jobs.submit(session, spec, now=0, retries=1).job_id
        lease = queue.claim(session, job_id, worker="w", host="h", now=0, lease_s=30)
        assert lease is not None
        event.listen(database.engine, "before_cursor_execute", note)
        HOT[name](session, lease)
        event.remove(database.engine, "before_cursor_execute", note)
        plans = [
            step[-1]
            for statement, parameters in ran
            for step in session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert ran, "the statement was seen"
    tables = ("jobs", "events", "metrics", "attempts", "transitions", "artifacts", "sweeps", "trials")
    assert [plan for plan in plans if plan.startswith(tuple(f"SCAN {table}" for table in tables))] == []


def test_warnings_are_found_by_their_own_index(database: Database):
    wanted = events.EventFilter(types=("log",), levels=("warning", "error"))
    ran: list[tuple[str, Any]] = []
    with database.begin() as session:
        event.listen(database.engine, "before_cursor_execute", lambda *about: ran.append((about[2], about[3])))
        events.latest(session, "job_0", wanted, 3)
        [(statement, parameters)] = [one for one in ran if one[0].startswith("SELECT")]
        [*plan] = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    assert "ix_events_warned" in plan[0][-1]
