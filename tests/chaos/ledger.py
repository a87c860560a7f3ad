"""What must hold about jobs whatever happened to them, read from the database after a storm."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

from chaos.service_harness import Stage
from chaos.trainer import EVERY, value
from retort.db import artifacts, events, jobs, metrics
from retort.db.models import EventRow, JobRow
from retort.states import TERMINAL, TRANSITIONS, AttemptState, JobState
from retort.storage import Store
from sqlalchemy.orm import Session


@dataclass
class Verdict:
    """What is wrong, job by job; empty lists are what is wanted."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    """Metric points that are missing, doubled, or wrong."""
    work_lost: list[int] = field(default_factory=list)
    """Epochs that had been told and were trained again, for each attempt that followed another."""

    def __iadd__(self, other: Verdict) -> Self:
        self.lost += other.lost
        self.doubled += other.doubled
        self.points += other.points
        self.work_lost += other.work_lost
        return self

    def wrong(self) -> list[str]:
        """All that is wrong."""
        return self.lost + self.doubled + self.points


def audit(stage: Stage, unfinished: list[str]) -> Verdict:
    """Look at every accepted job of *stage*, all of which should have succeeded but those that were cancelled."""
    verdict = Verdict(lost=[f"{job_id} has not ended" for job_id in unfinished])
    store = Store(stage.store_url)
    with stage.database.read() as session:
        known = sum(jobs.counts(session).values())
        if known != len(stage.accepted):
            verdict.lost.append(f"{len(stage.accepted)} jobs were accepted, {known} are known")
        for job_id, epochs in stage.accepted.items():
            job = session.get(JobRow, job_id)
            if job is None:
                verdict.lost.append(f"{job_id} is not known")
            elif job.state is JobState.SUCCEEDED:
                _audit_history(session, job, verdict)
                _audit_success(session, job, epochs, store, verdict)
            elif job.state in TERMINAL:
                _audit_history(session, job, verdict)
                if job.state is not JobState.CANCELLED:
                    verdict.lost.append(f"{job_id} ended as {job.state}: {job.failure}")
    return verdict


def audit_states(stage: Stage, unfinished: list[str]) -> Verdict:
    """Look at jobs that were really trained: what they published is not known beforehand."""
    verdict = Verdict(lost=[f"{job_id} has not ended" for job_id in unfinished])
    with stage.database.read() as session:
        for job_id in stage.accepted:
            job = jobs.get(session, job_id)
            _audit_history(session, job, verdict)
            if job.state is not JobState.SUCCEEDED:
                verdict.lost.append(f"{job_id} ended as {job.state}: {job.failure}")
    return verdict


def _audit_history(session: Session, job: JobRow, verdict: Verdict) -> None:
    states = [JobState(row.name) for row in jobs.transitions_of_job(session, job.id) if row.kind == "state"]
    legal = states[0] is JobState.QUEUED and all(after in TRANSITIONS[before] for before, after in pairwise(states))
    if not legal or sum(state in TERMINAL for state in states) != 1:
        verdict.doubled.append(f"{job.id} went through {states}")
    said = events.list_after(session, job.id, 0, 1_000_000)
    if [row.seq for row in said] != list(range(1, job.last_seq + 1)):
        verdict.points.append(f"{job.id}: events are missing or doubled")
    tries = jobs.attempts_of_job(session, job.id)
    if [row.fence for row in tries] != list(range(1, job.fence + 1)):
        verdict.doubled.append(f"{job.id}: fences {[row.fence for row in tries]}")
    if any(row.state is AttemptState.RUNNING for row in tries):
        verdict.doubled.append(f"{job.id}: an attempt still runs after the end")
    for number in {row.attempt for row in said if row.n is not None}:
        lines = [row.n for row in said if row.attempt == number and row.n is not None and row.type != "state"]
        if lines != sorted(set(lines)):
            verdict.points.append(f"{job.id}: lines of attempt {number} are doubled or out of order")


def _audit_success(session: Session, job: JobRow, epochs: int, store: Store, verdict: Verdict) -> None:
    winners = [row.number for row in jobs.attempts_of_job(session, job.id) if row.state is AttemptState.SUCCEEDED]
    published = [row for row in artifacts.of_job(session, job.id) if row.name == "student.pt"]
    if len(winners) != 1 or len(published) != 1:
        verdict.doubled.append(f"{job.id}: {len(winners)} winners, {len(published)} students")
        return
    content = json.loads(b"".join(store.read(published[0].key)))
    expected = {"job": job.id, "attempt": winners[0], "epochs": epochs}
    if content != expected or published[0].attempt != winners[0] or winners[0] != job.attempt:
        verdict.doubled.append(f"{job.id}: published {content} by attempt {published[0].attempt}, expected {expected}")
    found = metrics.series(session, job.id, name="train/loss")
    points = [(point.step, point.value) for series in found for point in series.points]
    if points != [(step, value(step)) for step in range(1, epochs + 1)]:
        verdict.points.append(f"{job.id}: has the points {points}")
    verdict.work_lost += work_lost(events.list_after(session, job.id, 0, 1_000_000))


def work_lost(said: list[EventRow]) -> list[int]:
    """Return how many epochs each attempt trained again that had been told before."""
    lost, told = [], 0
    begun: dict[int, int] = {row.attempt: row.data["epoch"] for row in said if row.message == "going on"}
    reached = {
        number: max((row.data["step"] for row in said if row.type == "metric" and row.attempt == number), default=0)
        for number in begun
    }
    for number in sorted(begun):
        if number > 1:
            lost.append(max(0, told - begun[number]))
        told = max(told, reached[number])
    return lost


INTERVAL = EVERY
"""Epochs: work lost per crash must not be more."""
