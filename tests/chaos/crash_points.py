"""How long a dead worker keeps its jobs, under the default lease, heartbeat and reaper."""

from __future__ import annotations

from pathlib import Path

from chaos.ledger import Verdict, audit
from chaos.service_harness import eventually, staged
from chaos.table import Line, percentile, say
from retort.db.jobs import transitions_of_job
from retort.settings import Settings
from retort.states import JobState
from servers import Postgres, Valkey

LONGEST_S = 45.0


def measure(
    folder: Path, postgres: Postgres, valkey: Valkey, *, workers: int, slots: int
) -> tuple[Verdict, list[float]]:
    """Kill *workers* at once, each with *slots* runs; return for each job the seconds until others could claim it."""
    usual = Settings(home=folder)
    times = {"lease_s": usual.lease_s, "heartbeat_s": usual.heartbeat_s, "reap_s": usual.reap_s, "poll_s": usual.poll_s}
    with staged(folder, postgres, valkey.fresh(), **times) as stage:
        stage.start_api()
        survivor = stage.add_machine(slots=1)
        stage.ready()
        blocking = stage.submit("train.500", 130)  # the survivor reaps, and has no slot for those that it rescues
        stage.wait(blocking, JobState.RUNNING)
        doomed = [stage.add_machine(slots=slots) for _ in range(workers)]
        stage.ready()
        jobs = [stage.submit("train.500", 20) for _ in range(workers * slots)]
        for job_id in jobs:
            stage.wait(job_id, JobState.RUNNING)
        with stage.database.read() as session:
            from retort.db.session import database_now

            killed_at = database_now(session)
        for machine in doomed:
            assert machine.process is not None
            machine.process.kill()
        eventually(lambda: all(stage.states()[job_id] is JobState.QUEUED for job_id in jobs), 90)
        with stage.database.read() as session:
            reaped = [
                next(row.at for row in transitions_of_job(session, job_id) if row.actor == "reaper") for job_id in jobs
            ]
        taken = [at - killed_at for at in reaped]
        say(f"deaths: claimable again after {max(taken):.1f} s at the latest")
        for machine in doomed:
            stage.start_worker(machine)
        assert survivor.process is not None
        stage.ask(blocking, "cancel")
        return audit(stage, stage.wait_for_all()), taken


def lines(verdict: Verdict, taken: list[float]) -> list[Line]:
    """Return the line of the table."""
    slowest, wrong = percentile(taken), verdict.wrong()
    return [
        Line(
            f"worker death -> job claimable again, p99 of {len(taken)}",
            f"{slowest:.1f} s", f"<= {LONGEST_S:g} s", slowest <= LONGEST_S and not wrong,
        )
    ]  # fmt: skip
