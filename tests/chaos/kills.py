"""A storm of SIGKILLs over API, workers and runs, while clients go on submitting."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from chaos.ledger import INTERVAL, Verdict, audit
from chaos.service_harness import Stage, staged
from chaos.table import Line, say
from retort.states import JobState
from servers import Postgres, Valkey

YOUNG_S = 4.0
"""A worker that is killed before it has begun to work proves nothing."""
MOST_RUN_KILLS = 2
"""Of one job: a third time the job is meant to fail as ``killed``."""


def storm(
    folder: Path, postgres: Postgres, valkey: Valkey, *, kills: int, seed: int
) -> tuple[Verdict, Counter[str], int]:
    """Kill until *kills* are done, then let the rest run; return what was found, the kills by kind, and the jobs."""
    draw = random.Random(seed)
    with staged(folder, postgres, valkey.fresh()) as stage:
        for _ in range(2):
            stage.start_api()
        for _ in range(4):
            stage.add_machine(slots=3)
        stage.ready()
        done: Counter[str] = Counter()
        killed: Counter[str] = Counter()
        while done.total() < kills:
            if len(stage.accepted) < kills and stage.number(JobState.QUEUED) < 8:
                stage.submit("train.300", draw.randint(6, 14))
            kind = draw.choices(["run", "worker", "api"], [6, 3, 2])[0]
            done[kind] += _kill(stage, kind, draw, killed)
            if done.total() % 50 == 0:
                say(f"kills: {dict(done)}, {len(stage.accepted)} jobs")
            time.sleep(draw.uniform(0.2, 0.8))
        say(f"kills: done, {dict(done)}; waiting for {len(stage.accepted)} jobs")
        return audit(stage, stage.wait_for_all()), done, len(stage.accepted)


def _kill(stage: Stage, kind: str, draw: random.Random, killed: Counter[str]) -> int:
    """Kill one process of the kind, and start again what nobody else would; return how many were killed."""
    if kind == "run":
        runs = [run for machine in stage.machines for run in machine.runs() if killed[run[0]] < MOST_RUN_KILLS]
        for job_id, group in draw.sample(runs, min(1, len(runs))):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
                killed[job_id] += 1
                return 1
        return 0
    if kind == "worker":
        at_work = [machine for machine in stage.machines if machine.age_s() > YOUNG_S]
        for machine in draw.sample(at_work, min(1, len(at_work))):
            assert machine.process is not None
            machine.process.kill()
            stage.start_worker(machine)
            return 1
        return 0
    index = draw.randrange(len(stage.apis))
    stage.apis[index][1].kill()
    stage.restart_api(index)
    return 1


def lines(verdict: Verdict, done: Counter[str], num_jobs: int) -> list[Line]:
    """Return the lines of the table."""
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(done.items()))
    crashes = verdict.work_lost
    return [
        Line(
            f"accepted jobs lost in {done.total()} random SIGKILLs ({kinds}), {num_jobs} jobs",
            str(len(verdict.lost)), "0", not verdict.lost,
        ),
        Line(
            f"work lost per crash, epochs trained again, most of {len(crashes)}",
            str(max(crashes, default=0)), f"<= {INTERVAL}", max(crashes, default=0) <= INTERVAL,
        ),
    ]  # fmt: skip
