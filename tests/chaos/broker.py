"""A broker that is killed without having kept anything, flushed, swallowed by the network, or never there."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from chaos.ledger import Verdict, audit
from chaos.proxy import Proxy
from chaos.service_harness import Stage, staged
from chaos.table import Line, say
from retort.states import JobState
from servers import Postgres, Valkey, free_port, running

LONGEST_START_S = 15.0


def torment(folder: Path, postgres: Postgres, *, black_hole_s: float) -> tuple[Verdict, dict[str, float]]:
    """Do all of it; return what was found, and by misfortune how long the next job took to start."""
    with ExitStack() as stack:
        valkey = stack.enter_context(running(Valkey()))
        proxy = stack.enter_context(Proxy(valkey.port))
        stage = stack.enter_context(staged(folder, postgres, f"redis://127.0.0.1:{proxy.port}/0", poll_s=2.0))
        _people(stage)
        starts = {}
        for name in ("killed", "flushed", "black hole"):
            for _ in range(5):
                stage.submit("train.20", 5)
            _strike(name, valkey, proxy, black_hole_s)
            for _ in range(5):
                stage.submit("train.20", 5)
            starts[name] = _start_s(stage)
            say(f"broker {name}: the next job started after {starts[name]:.1f} s")
        verdict = audit(stage, stage.wait_for_all())
    with staged(folder / "none", postgres, f"redis://127.0.0.1:{free_port()}/0", poll_s=2.0) as stage:
        _people(stage, ready=False)
        starts["never started"] = max(_start_s(stage) for _ in range(3))
        verdict += audit(stage, stage.wait_for_all())
    return verdict, starts


def _people(stage: Stage, *, ready: bool = True) -> None:
    stage.start_api()
    for _ in range(2):
        stage.add_machine(slots=4)
    if ready:
        stage.ready()


def _strike(name: str, valkey: Valkey, proxy: Proxy, black_hole_s: float) -> None:
    if name == "killed":
        valkey.kill()
        valkey.start()
    elif name == "flushed":
        valkey.execute("FLUSHALL")
    else:
        proxy.swallow()
        time.sleep(black_hole_s)
        proxy.heal()


def _start_s(stage: Stage) -> float:
    """Submit a job; return how long it took from its acceptance to the start of its run."""
    job_id = stage.submit("train.20", 5)
    stage.wait(job_id, JobState.SUCCEEDED)
    job = stage.job(job_id)
    assert job.started_at is not None
    return job.started_at - job.created_at


def lines(verdict: Verdict, starts: dict[str, float], black_hole_s: float) -> list[Line]:
    """Return the lines of the table."""
    slowest = max(starts.values())
    wrong = verdict.wrong()
    return [
        Line(
            f"broker killed, flushed, black-holed {black_hole_s:g} s, never started: jobs lost; next start, slowest",
            f"{len(wrong)}; {slowest:.1f} s", f"0; <= {LONGEST_START_S:g} s", not wrong and slowest <= LONGEST_START_S,
        )
    ]  # fmt: skip
