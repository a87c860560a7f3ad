"""Workers that sleep past their leases and wake up when others have their jobs, or have ended them."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from chaos.ledger import Verdict, audit
from chaos.service_harness import Machine, Stage, eventually, staged
from chaos.table import Line, say
from retort.db.models import JobRow
from retort.states import ACTIVE, JobState
from servers import Postgres, Valkey
from sqlalchemy import select

SLOTS = 4


def haunt(folder: Path, postgres: Postgres, valkey: Valkey, *, zombies: int, seed: int) -> tuple[Verdict, int]:
    """Put workers to sleep until *zombies* runs have been supervised by a sleeper; return what was found."""
    draw = random.Random(seed)
    count = 0
    with staged(folder, postgres, valkey.fresh()) as stage:
        stage.start_api()
        for _ in range(5):
            stage.add_machine(slots=SLOTS)
        stage.ready()
        while count < zombies:
            while stage.number(JobState.QUEUED, JobState.RUNNING) < 5 * SLOTS:
                stage.submit("train.100", draw.randint(15, 40))
            time.sleep(draw.uniform(0.2, 1.0))
            count += _cycle(stage, draw.sample(stage.machines, 3))
            say(f"zombies: {count}, {len(stage.accepted)} jobs")
        return audit(stage, stage.wait_for_all()), count


def _cycle(stage: Stage, sleepers: list[Machine]) -> int:
    """Let the sleepers sleep until all their jobs have been taken from them; return how many these were."""
    for machine in sleepers:
        _signal(machine, signal.SIGSTOP)
    # What is supervised at this moment, by the workers' own names.
    pids = {machine.process.pid for machine in sleepers if machine.process}
    with stage.database.read() as session:
        held = session.execute(select(JobRow.id, JobRow.fence, JobRow.worker).where(JobRow.state.in_(ACTIVE))).all()
    lost = [(job_id, fence) for job_id, fence, worker in held if int(worker.split(":")[1]) in pids]

    def taken() -> bool:
        return all(
            (job := stage.job(job_id)).fence > fence or job.state not in ACTIVE for job_id, fence in lost
        )  # fmt: skip

    eventually(taken)
    for machine in sleepers:
        _signal(machine, signal.SIGCONT)
    return len(lost)


def _signal(machine: Machine, number: signal.Signals) -> None:
    assert machine.process is not None
    machine.process.send_signal(number)


def lines(verdict: Verdict, count: int) -> list[Line]:
    """Return the line of the table."""
    wrong = verdict.doubled + verdict.lost
    return [
        Line(
            f"double publishes, stale writes accepted, jobs lost in {count} zombies",
            str(len(wrong)), "0", not wrong,
        )
    ]  # fmt: skip
