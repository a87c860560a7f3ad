"""A worker that is told to go: when it claims for the last time, when others can have its jobs, and what that costs."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from chaos.ledger import Verdict, audit
from chaos.service_harness import Stage, eventually, staged
from chaos.table import Line, say
from retort.db import jobs
from retort.db.session import database_now
from retort.states import AttemptState, JobState
from servers import Postgres, Valkey

SLOTS = 3


@dataclass
class Drains:
    """What was measured over all drains."""

    claimed_after_s: list[float] = field(default_factory=list)
    """From the signal to the last claim."""
    back_after_exit_s: list[float] = field(default_factory=list)
    """From the worker's exit to the moment at which its jobs could be claimed; below 0 is before the exit."""
    exited_after_s: list[float] = field(default_factory=list)
    retries_used: int = 0


def measure(folder: Path, postgres: Postgres, valkey: Valkey, *, cycles: int) -> tuple[Verdict, Drains]:
    """Drain a worker *cycles* times, in the middle of its runs, while more jobs come."""
    found = Drains()
    with staged(folder, postgres, valkey.fresh()) as stage:
        stage.start_api()
        machine = stage.add_machine(slots=SLOTS)
        for cycle in range(cycles):
            stage.ready()
            eventually(lambda: _fill(stage) >= SLOTS)
            _drain(stage, machine.process, found)
            (machine.folder / "worker.log").rename(machine.folder / f"worker-{cycle}.log")
            stage.start_worker(machine)
        say(f"drains: {cycles}, slowest exit {max(found.exited_after_s):.1f} s")
        for job_id in stage.accepted:
            found.retries_used += stage.settings["max_retries"] - stage.job(job_id).retries_left
        return audit(stage, stage.wait_for_all()), found


def _fill(stage: Stage) -> int:
    """Submit where few jobs are left; return how many run."""
    if stage.number(JobState.QUEUED, JobState.RUNNING) < 2 * SLOTS:
        stage.submit("train.100", 25)
    return stage.number(JobState.RUNNING)


def _drain(stage: Stage, process: object, found: Drains) -> None:
    running = [job_id for job_id, state in stage.states().items() if state is JobState.RUNNING]
    with stage.database.read() as session:
        asked = database_now(session)
    process.send_signal(signal.SIGTERM)  # type: ignore[attr-defined]
    begun = time.monotonic()
    for _ in range(3):
        stage.submit("train.100", 25)
    process.wait(60)  # type: ignore[attr-defined]
    found.exited_after_s.append(time.monotonic() - begun)
    with stage.database.read() as session:
        exited = database_now(session)
        rows = [row for job_id in stage.accepted for row in jobs.attempts_of_job(session, job_id)]
        found.claimed_after_s.append(max(max(row.started_at for row in rows) - asked, 0.0))
        for job_id in running:
            last = [row for row in jobs.transitions_of_job(session, job_id) if row.kind == "state"][-1]
            if last.name == JobState.QUEUED:
                found.back_after_exit_s.append(last.at - exited)
            handed = jobs.attempts_of_job(session, job_id)[-1].state
            assert handed in {AttemptState.HANDED_BACK, AttemptState.SUCCEEDED}, handed


def lines(verdict: Verdict, found: Drains) -> list[Line]:
    """Return the line of the table."""
    last, back, wrong = max(found.claimed_after_s), max(found.back_after_exit_s), verdict.wrong()
    return [
        Line(
            f"drain ({len(found.claimed_after_s)} times): last claim after; job claimable after exit; retries used",
            f"{last:.2f} s; {max(back, 0.0):.1f} s; {found.retries_used}", "<= 1 s; <= 10 s; 0",
            last <= 1 and back <= 10 and not found.retries_used and not wrong,
        )
    ]  # fmt: skip
