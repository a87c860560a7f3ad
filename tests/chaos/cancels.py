"""How long a cancelled run lives, and whether anything of it outlives it."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chaos.ledger import Verdict, audit
from chaos.service_harness import Stage, eventually, staged
from chaos.table import Line, percentile, say
from retort.states import JobState
from servers import Postgres, Valkey

LONGEST_S = 15.0


def measure(
    folder: Path, postgres: Postgres, valkey: Valkey, *, cycles: int, seed: int
) -> tuple[Verdict, list[float], int]:
    """Cancel *cycles* running jobs, every fifth of which does not listen; return the seconds, and the orphans."""
    draw = random.Random(seed)
    with staged(folder, postgres, valkey.fresh(), grace_s=5.0) as stage:
        stage.start_api()
        for _ in range(2):
            stage.add_machine(slots=4)
        stage.ready()
        manners = [("stubborn.100" if number % 5 == 4 else "train.100", draw.uniform(0, 1)) for number in range(cycles)]
        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(lambda manner: _cycle(stage, *manner), manners))
        verdict = audit(stage, stage.wait_for_all())
        eventually(lambda: not stage.orphans(), 10) if stage.orphans() else None
        say(f"cancels: {cycles}, slowest {max(taken):.1f} s")
        return verdict, taken, len(stage.orphans())


def _cycle(stage: Stage, manner: str, pause_s: float) -> float:
    """Cancel one job in the middle of its run; return how long its process group lived on."""
    job_id = stage.submit(manner, 10_000)
    group = eventually(lambda: next((pid for m in stage.machines for job, pid in m.runs() if job == job_id), 0))
    time.sleep(pause_s)
    stage.ask(job_id, "cancel")
    asked = time.monotonic()
    eventually(lambda: not _lives(group))
    taken = time.monotonic() - asked
    stage.wait(job_id, JobState.CANCELLED)
    return taken


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def lines(verdict: Verdict, taken: list[float], orphans: int) -> list[Line]:
    """Return the line of the table."""
    slowest, wrong = percentile(taken), verdict.wrong()
    return [
        Line(
            f"cancel -> run process group dead, p99 of {len(taken)}; orphans",
            f"{slowest:.1f} s; {orphans}", f"<= {LONGEST_S:g} s; 0", slowest <= LONGEST_S and not orphans and not wrong,
        )
    ]  # fmt: skip
