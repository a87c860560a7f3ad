"""A database that is restarted, throws its clients out in storms, or has no connection left."""

from __future__ import annotations

import contextlib
import signal
import statistics
import threading
import time
from pathlib import Path

import psycopg
from chaos.ledger import Verdict, audit
from chaos.service_harness import Stage, staged
from chaos.table import Line, say
from servers import Postgres, Valkey, running


class Flow:
    """A steady stream of jobs that are over at once, as fast as they go."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(Exception):  # the database is away, which is what this is about
                if sum(state == "queued" for state in self._recent()) < 30:
                    for _ in range(10):
                        self._stage.submit("train.0", 1)
                else:
                    time.sleep(0.05)

    def _recent(self) -> list[str]:
        with self._stage.database.read() as session:
            from retort.db import job_list

            return [str(job.state) for job in job_list.page(session, limit=100)]

    def per_second(self, windows: int, window_s: float) -> float:
        """Return the median of how many jobs ended per second, in so many windows."""
        rates = []
        for _ in range(windows):
            before, begun = self._ended(), time.monotonic()
            time.sleep(window_s)
            rates.append((self._ended() - before) / (time.monotonic() - begun))
        return statistics.median(rates)

    def _ended(self) -> int:
        with self._stage.database.read() as session:
            from retort.db import jobs
            from retort.states import TERMINAL

            counts = jobs.counts(session)
            return sum(counts[state] for state in TERMINAL)

    def stop(self) -> None:
        """Submit no more."""
        self._stopped.set()
        self._thread.join()


def torment(folder: Path, *, windows: int, window_s: float, storm_s: float) -> tuple[Verdict, dict[str, float]]:
    """Do all of it; return what was found, and by misfortune the throughput afterwards over that before it."""
    with running(Postgres()) as postgres, running(Valkey()) as valkey, staged(folder, postgres, valkey.url()) as stage:
        stage.start_api()
        for _ in range(2):
            stage.add_machine(slots=4)
        stage.ready()
        flow = Flow(stage)
        flow.per_second(1, window_s)
        ratios = {}
        for name in ("restarted", "terminated", "exhausted"):
            before = flow.per_second(windows, window_s)
            _strike(name, postgres, stage, storm_s)
            time.sleep(window_s)  # the recovery itself is not throughput
            ratios[name] = flow.per_second(windows, window_s) / before
            say(f"PostgreSQL {name}: {ratios[name]:.2f} of {before:.1f} jobs/s afterwards")
        flow.stop()
        return audit(stage, stage.wait_for_all()), ratios


def _strike(name: str, postgres: Postgres, stage: Stage, storm_s: float) -> None:
    where = f"host={postgres.folder} user=postgres dbname=postgres"
    if name == "restarted":
        postgres.kill(signal.SIGINT)
        time.sleep(2.0)
        postgres.start()
    elif name == "terminated":
        deadline = time.monotonic() + storm_s
        while time.monotonic() < deadline:
            with psycopg.connect(where, autocommit=True) as connection:
                sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                connection.execute(sql, (stage.database_name,))
            time.sleep(0.5)
    else:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(psycopg.connect(where))
            time.sleep(storm_s)


def lines(verdict: Verdict, ratios: dict[str, float], least: float) -> list[Line]:
    """Return the line of the table."""
    wrong, lowest = verdict.wrong(), min(ratios.values())
    shown = ", ".join(f"{name} {ratio:.0%}" for name, ratio in ratios.items())
    return [
        Line(
            f"PostgreSQL restarted, connections terminated, pool exhausted: jobs lost; throughput after ({shown})",
            f"{len(wrong)}; {lowest:.0%}", f"0; >= {least:.0%}", not wrong and lowest >= least,
        )
    ]  # fmt: skip
