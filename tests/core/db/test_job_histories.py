"""Any history of submissions, claims, wishes, failures, deaths and late writers, on a clock that the test turns.

A short one runs with the other tests; ``--hypothesis-profile=long`` takes 10,000 steps on each database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from results import result
from retort.constants import MAP, Role
from retort.db import Database, Lease, artifacts, events, jobs, queue, reruns, reviews, transitions
from retort.db.idempotency import IdempotencyKey
from retort.db.models import Base
from retort.errors import UserError
from retort.protocol.events import MetricEvent, RunFailure
from retort.review.models import ImageDecision, Picture, ReviewSet
from retort.spec import JobSpec, parse_spec
from retort.states import ACTIVE, TERMINAL, TRANSITIONS, JobState
from sqlalchemy import delete, select
from support.db_harness import T0

LEASE_S = 30.0
FAILURES = [
    RunFailure(code=code, message="x", retryable=retryable)
    for code, retryable in (("crashed", True), ("disk_full", True), ("diverged", False), ("out_of_memory", False))
]

SUBMISSION: dict[str, st.SearchStrategy[Any]] = {
    "owner": st.sampled_from("ab"),
    "priority": st.sampled_from([0, 0, 0, 1, -1]),
    "patience": st.sampled_from([None, 20.0, 200.0]),
    "retries": st.integers(0, 2),
    "key": st.sampled_from([None, None, "k1", "k2"]),
}


@dataclass
class Seen:
    """What the test knows about one job."""

    fence: int = 0
    lease: Lease | None = None
    """The one that is valid."""
    published: set[int] = field(default_factory=set)
    """Attempts that published under a valid lease."""
    retries: int = 1
    """With which it was submitted."""


def _seen(image: str) -> Picture:
    return Picture(image=image, file=image, width=1, height=1, kept=())


PROPOSALS = ReviewSet(mode="all", classes=("red",), pictures=(_seen("a"), _seen("b")))


class Histories(RuleBasedStateMachine):
    """Everything that may happen to jobs, in any order."""

    ids = Bundle("ids")
    leases = Bundle("leases")

    def __init__(self, database: Database, spec: JobSpec) -> None:
        super().__init__()
        self.database = database
        self.document = spec.model_dump(mode="json")
        self.now = T0
        self.seen: dict[str, Seen] = {}
        self.keys: dict[str, str] = {}

    def teardown(self) -> None:
        with self.database.begin() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))

    # Clients

    @initialize(target=ids, crowd=st.lists(st.fixed_dictionaries(SUBMISSION), max_size=6))
    def begin(self, crowd: list[dict[str, Any]]) -> Any:
        return multiple(*(self.submit(**one) for one in crowd))

    @rule(target=ids, **SUBMISSION)
    def submit(self, owner: str, priority: int, patience: float | None, retries: int, key: str | None) -> str:
        resources = {"max_queue_s": patience, "halve_batch": True}
        spec = parse_spec({**self.document, "resources": resources})
        with self.database.begin() as session:
            made = jobs.submit(
                session, spec, now=self.now, retries=retries, owner=owner, priority=priority,
                key=key and IdempotencyKey(key, request_sha256="same"),
            )  # fmt: skip
        if key is not None:
            assert made.created == (key not in self.keys)
            assert self.keys.setdefault(key, made.job_id) == made.job_id
        self.seen.setdefault(made.job_id, Seen(retries=retries))
        return made.job_id

    @rule(job_id=ids, what=st.sampled_from([jobs.cancel, jobs.pause, jobs.resume, jobs.finish_early]))
    def wish(self, job_id: str, what: Callable[..., JobState]) -> None:
        before = self.row(job_id)
        try:
            with self.database.begin() as session:
                what(session, job_id, now=self.now, actor="client")
        except UserError:
            assert self.row(job_id) == before

    @rule(target=ids, job_id=ids, again=st.sampled_from([True, False]))
    def repeat(self, job_id: str, again: bool) -> str:
        terms = reruns.RerunTerms(now=self.now, retries=1, admit=lambda _: ())
        try:
            with self.database.begin() as session:
                made = reruns.retry(session, job_id, terms) if again else reruns.clone(session, job_id, {}, terms)
        except jobs.WrongState:
            assert self.row(job_id)["state"] not in {JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
            return job_id
        self.seen[made.job_id] = Seen()
        return made.job_id

    # Workers, also those that have lost their lease and do not know it

    @rule(target=leases, worker=st.sampled_from(["w1", "w2", "w3"]), number=st.integers(1, 4))
    @precondition(lambda self: self.seen)
    def claim_next(self, worker: str, number: int) -> Any:
        with self.database.read() as session:
            waiting = [job.job_id for job in queue.claimable(session, now=self.now, number=number)][:number]
        rows = self.rows()
        able = [row for row in rows.values() if self.is_claimable(row)]
        peers = [row for row in able if row["priority"] == max(row["priority"] for row in able)]
        assert len(waiting) == min(number, len(peers))
        active = Counter(row["owner"] for row in rows.values() if row["state"] in ACTIVE)
        for job_id in waiting:
            owner = rows[job_id]["owner"]
            assert active[owner] == min(active[row["owner"]] for row in peers)
            assert job_id == min(row["id"] for row in peers if row["owner"] == owner)
            peers.remove(rows[job_id])
            active[owner] += 1
        with self.database.begin() as session:
            claims = queue.claim_all(
                session, dict.fromkeys(waiting), worker=worker, host="h", now=self.now, lease_s=LEASE_S
            )
        assert {claim.lease.job_id for claim in claims} == set(waiting)
        rows = self.rows()
        for claim in claims:
            assert rows[claim.lease.job_id]["lease_until"] == self.now + LEASE_S
            self.seen[claim.lease.job_id].lease = claim.lease
        return multiple(*(claim.lease for claim in claims))

    @rule(target=leases, job_id=ids, worker=st.sampled_from(["w1", "w2"]))
    def claim(self, job_id: str, worker: str) -> Lease | None:
        able = self.is_claimable(self.row(job_id))
        with self.database.begin() as session:
            lease = queue.claim(session, job_id, worker=worker, host="h", now=self.now, lease_s=LEASE_S)
        assert (lease is not None) == able
        if lease is not None:
            self.seen[job_id].lease = lease
        return lease

    def is_claimable(self, row: dict[str, Any]) -> bool:
        waits = row["state"] is JobState.QUEUED and row["claimable_at"] <= self.now
        return waits and (row["expires_at"] is None or row["expires_at"] > self.now)

    @rule(lease=leases, step=st.integers(1, 3))
    def record(self, lease: Lease | None, step: int) -> None:
        said = [MetricEvent(n=step, at=1.0, role=Role.STUDENT, step=step, values={MAP: step / 10})]
        self.write(lease, lambda session, held: events.record(
            session, held, said, now=self.now, lease_s=LEASE_S, journal_offset=step
        ), ends=False)  # fmt: skip

    @rule(lease=leases)
    def publish(self, lease: Lease | None) -> None:
        file = artifacts.NewArtifact("student.pt", "student", f"{self.now}", 1, "x", "k")
        if self.write(lease, lambda session, held: artifacts.record(session, held, file, now=self.now), ends=False):
            assert lease is not None
            self.seen[lease.job_id].published.add(lease.attempt)

    @rule(lease=leases)
    def save(self, lease: Lease | None) -> None:
        def saving(session: Any, held: Lease) -> bool:
            about = {"job_id": held.job_id, "attempt": held.attempt, "stage": "distill", "epoch": 1, "files": []}
            return artifacts.record_recovery(session, held, about, now=self.now)

        self.write(lease, saving, ends=False)

    @rule(lease=leases)
    def succeed(self, lease: Lease | None) -> None:
        self.write(
            lease,
            lambda session, held: transitions.succeed(
                session, held, now=self.now, result=result(duration_s=held.attempt)
            ),
        )

    @rule(lease=leases, failure=st.sampled_from(FAILURES))
    def fail(self, lease: Lease | None, failure: RunFailure) -> None:
        self.write(lease, lambda session, held: transitions.fail(
            session, held, now=self.now, failure=failure, exit_code=1
        ))  # fmt: skip

    @rule(lease=leases)
    def hand_back(self, lease: Lease | None) -> None:
        self.write(lease, lambda session, held: transitions.hand_back(session, held, now=self.now))

    @rule(lease=leases)
    def await_review(self, lease: Lease | None) -> None:
        self.write(lease, lambda session, held: transitions.await_review(session, held, now=self.now, exit_code=3))

    # Reviewers

    @rule(job_id=ids, image=st.sampled_from(["a", "b"]), verdict=st.sampled_from(["accept", "reject"]))
    def decide(self, job_id: str, image: str, verdict: str) -> None:
        decision = ImageDecision.model_validate({"image": image, "decision": verdict, "at": self.now})
        self.review(job_id, lambda session: reviews.decide(session, job_id, [decision]), refused_while_waiting=False)

    @rule(job_id=ids, rest=st.sampled_from(["accept", None]))
    def complete(self, job_id: str, rest: Any) -> None:
        def work(session: Any) -> None:
            reviews.complete(
                session, job_id, PROPOSALS, rest=rest, reviewer="ann", now=self.now, actor="client"
            )  # fmt: skip

        waited, before = self.row(job_id)["state"] is JobState.AWAITING_REVIEW, self.everything(job_id)
        done = self.review(job_id, work, refused_while_waiting=rest is None, done=self.decided(job_id) == {"a", "b"})
        if done:
            assert self.decided(job_id) == {"a", "b"}
            assert self.row(job_id)["state"] is JobState.QUEUED if waited else self.everything(job_id) == before

    def decided(self, job_id: str) -> set[str]:
        with self.database.read() as session:
            return {found.image for found in reviews.of_job(session, job_id)}

    def review(
        self, job_id: str, work: Callable[[Any], None], *, refused_while_waiting: bool, done: bool = False
    ) -> bool:
        """Do it exactly when the job waits for its review; what is *done* may be asked for again."""
        before, waits = self.everything(job_id), self.row(job_id)["state"] is JobState.AWAITING_REVIEW
        try:
            with self.database.begin() as session:
                work(session)
        except UserError:
            assert refused_while_waiting or not waits
            assert self.everything(job_id) == before
            return False
        assert waits or done
        return True

    def write(self, lease: Lease | None, what: Callable[[Any, Lease], Any], *, ends: bool = True) -> bool:
        """Write under a lease: exactly when it is valid something happens."""
        if lease is None:
            return False
        valid, before = self.seen[lease.job_id].lease == lease, self.everything(lease.job_id)
        with self.database.begin() as session:
            answer = bool(what(session, lease))
        assert answer == valid
        if not valid:
            assert self.everything(lease.job_id) == before
        elif ends:
            self.seen[lease.job_id].lease = None
        return valid

    # Time

    @rule(seconds=st.sampled_from([1.0, 10.0, 25.0, 31.0, 700.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(1, 5))
    def reap(self, limit: int) -> None:
        before = self.rows()
        with self.database.begin() as session:
            reaped = queue.reap(session, now=self.now, limit=limit)
        due = {name for name, row in before.items() if row["state"] in ACTIVE and row["lease_until"] < self.now}
        assert {lost.job_id for lost in reaped} <= due
        assert len(reaped) == min(limit, len(due))
        for lost in reaped:
            self.seen[lost.job_id].lease = None

    @rule()
    def expire(self) -> None:
        before = self.rows()
        with self.database.begin() as session:
            gone = {job.job_id for job in queue.expire(session, now=self.now)}
        waiting = {name: row for name, row in before.items() if row["state"] is JobState.QUEUED and row["expires_at"]}
        assert gone == {name for name, row in waiting.items() if row["expires_at"] <= self.now}
        assert all(before[job_id]["attempt"] == 0 for job_id in gone)

    # What must hold at any time

    @invariant()
    def every_job_is_in_order(self) -> None:
        with self.database.read() as session:
            counts = jobs.counts(session)
            tables = {
                name: [dict(row._mapping) for row in session.execute(select(table).order_by(*table.primary_key))]
                for name, table in Base.metadata.tables.items()
            }
        assert sum(counts.values()) == len(self.seen) == len(tables["jobs"])
        for row in tables["jobs"]:
            own = {name: [r for r in rows if r.get("job_id") == row["id"]] for name, rows in tables.items()}
            self.check(row, own)

    def check(self, row: dict[str, Any], own: dict[str, list[dict[str, Any]]]) -> None:
        seen = self.seen[row["id"]]
        states = [JobState(change["name"]) for change in own["transitions"]]
        assert states[0] is JobState.QUEUED
        assert states[-1] is row["state"]
        assert all(later in TRANSITIONS[earlier] for earlier, later in pairwise(states))
        assert sum(state in TERMINAL for state in states) == (row["state"] in TERMINAL)
        assert row["fence"] >= seen.fence
        seen.fence = row["fence"]
        running = [attempt for attempt in own["attempts"] if attempt["state"] == "running"]
        assert [attempt["fence"] for attempt in own["attempts"]] == list(range(1, row["fence"] + 1))
        active = row["state"] in ACTIVE
        assert len(running) == active == (seen.lease is not None)
        assert (
            active == (row["worker"] is not None) == (row["lease_until"] is not None) == (row["claimed_at"] is not None)
        )
        assert [event["seq"] for event in own["events"]] == list(range(1, row["last_seq"] + 1))
        assert (row["result"] is not None) == (row["state"] is JobState.SUCCEEDED)
        assert (row["finished_at"] is not None) == (row["state"] in TERMINAL)
        assert row["retries_left"] == self.retries_left(seen, own) >= 0
        assert row["run_s"] >= 0
        assert {artifact["attempt"] for artifact in own["artifacts"]} <= seen.published
        if row["state"] is JobState.SUCCEEDED:
            assert row["result"]["duration_s"] == row["attempt"]

    def retries_left(self, seen: Seen, own: dict[str, list[dict[str, Any]]]) -> int:
        """Retries by the history: a failed attempt costs one, one that got further than all before restores them.

        One that pauses costs none, whatever ends it, but where its batch is halved: no pause makes memory short.
        """
        first: dict[Any, int] = {}
        for one in own["metrics"]:
            if one["step"] > 0 and one["name"].endswith(MAP):
                key = one["role"], one["name"], one["step"]
                first[key] = min(one["attempt"], first.get(key, one["attempt"]))
        left, attempt = seen.retries, 0
        for earlier, later in pairwise(own["transitions"]):
            if earlier["name"] in ACTIVE and later["name"] not in ACTIVE:
                attempt += 1
                if later["name"] not in TERMINAL:
                    left = seen.retries if attempt in first.values() else left
                    failed = later["reason"] not in {"drain", "pause"}
                    left -= failed and (earlier["name"], later["name"]) == (JobState.RUNNING, JobState.QUEUED)
                    halved = (own["attempts"][attempt - 1]["failure"] or {}).get("code") == "out_of_memory"
                    left -= halved and later["name"] == JobState.PAUSED
        return left

    def rows(self) -> dict[str, dict[str, Any]]:
        table = Base.metadata.tables["jobs"]
        with self.database.read() as session:
            return {row.id: dict(row._mapping) for row in session.execute(select(table))}

    def row(self, job_id: str) -> dict[str, Any]:
        return self.rows()[job_id]

    def everything(self, job_id: str) -> list[Any]:
        with self.database.read() as session:
            of_jobs = [
                (table, table.c.id if name == "jobs" else table.c.job_id)
                for name, table in Base.metadata.tables.items()
                if name == "jobs" or "job_id" in table.c
            ]
            return [list(session.execute(select(table).where(column == job_id))) for table, column in of_jobs]


def test_whatever_happens_every_job_stays_in_order(database: Database, spec: JobSpec):
    chosen = settings.get_current_profile_name()
    profile = settings.get_profile(chosen if chosen == "long" else "short")
    run_state_machine_as_test(lambda: Histories(database, spec), settings=profile)
