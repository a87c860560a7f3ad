"""What the service can take: submissions, jobs, metric points, polls, lists, downloads; beside MLflow and nginx."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import service_api as api
import service_runs as runs
from provenance import provenance, write_json
from service_peers import Mlflow, mlflow, version
from service_stand import Stand, standing

from servers import Postgres, Valkey, free_port, running  # isort: skip - service_stand says where they are


@dataclass(frozen=True)
class Line:
    """One figure and its goal."""

    line: str
    figure: str
    goal: str
    ok: bool


@dataclass(frozen=True)
class Counts:
    """How much of each."""

    seconds: float
    rounds: int
    jobs: int
    starts: int
    rows: int
    batches: int
    size_mib: int


WHOLE = Counts(8.0, 3, 400, 100, 1_000_000, 40, 256)
QUICK = Counts(1.0, 1, 20, 5, 3_000, 4, 8)


class Bench:
    """All lines, on servers of their own."""

    def __init__(self, folder: Path, postgres: Postgres, valkey: Valkey, counts: Counts, peer: str | None) -> None:
        self._folder, self._postgres, self._valkey, self._counts, self._peer = folder, postgres, valkey, counts, peer
        self._number = 0

    def accept(self) -> list[Line]:
        """Accepted jobs a second."""
        lines = []
        for name, least in (("PostgreSQL", 300), ("SQLite", 150)):
            with self._stand(name) as stand:
                found = [api.accept(stand, seconds=self._counts.seconds) for _ in range(self._counts.rounds)]
            rate = statistics.median(load.per_second for load in found)
            slowest = statistics.median(load.p99_ms for load in found)
            failed = sum(load.failed for load in found)
            limit = 100.0 if name == "PostgreSQL" else float("inf")
            goal = f">= {least}/s; < 100 ms" if name == "PostgreSQL" else f">= {least}/s"
            ok = rate >= least and slowest < limit and not failed
            lines.append(Line(f"accepted jobs, {name}; p99", f"{rate:.0f}/s; {slowest:.0f} ms", goal, ok))
        return lines

    def jobs(self) -> list[Line]:
        """No-op jobs a second, from the queue to their end."""
        with self._stand("PostgreSQL", slots=8, poll_s=0.5) as stand:
            runs.start_workers(stand, workers=2)
            rate = runs.end_to_end(stand, number=self._counts.jobs)
        return [Line("no-op jobs end to end, PostgreSQL, two workers", f"{rate:.0f}/s", ">= 250/s", rate >= 250)]

    def starts(self) -> list[Line]:
        """From POST to the start of the run's process."""
        lines = []
        for name, database, limit in (("Redis", "PostgreSQL", 1.0), ("embedded", "SQLite", 2.0)):
            with self._stand(database) as stand:
                stand.start_api()
                runs.start_workers(stand, workers=1)
                slowest = runs.worst(runs.start_latencies(stand, number=self._counts.starts))
            lines.append(
                Line(
                    f"POST -> run process started, {name}, p99", f"{slowest:.2f} s", f"<= {limit:g} s", slowest <= limit
                )
            )
        return lines

    def points(self) -> list[Line]:
        """Metric points into SQL."""
        lines = []
        for name in ("PostgreSQL", "SQLite"):
            with self._stand(name, api=False) as stand:
                rate = runs.points_per_second(stand, batches=self._counts.batches, points=1000)
            lines.append(
                Line(f"metric points into {name}, as a worker records", f"{rate:.0f}/s", ">= 10000/s", rate >= 10_000)
            )
        return lines

    def polls(self) -> list[Line]:
        """Polls of an unchanged job."""
        with self._stand("PostgreSQL") as stand:
            found = api.poll(stand, seconds=self._counts.seconds)
        figure = f"{found.per_second:.0f}/s; {found.p99_ms:.0f} ms"
        return [Line("status polls answered 304, PostgreSQL; p99", figure, "-", not found.failed)]

    def tables(self) -> list[Line]:
        """Lists and curves in small and large tables."""
        rows, times = self._counts.rows, 300 if self._counts.rows > 10_000 else 40
        with ExitStack() as stack:
            small, large = (stack.enter_context(self._stand("PostgreSQL")) for _ in range(2))
            curves = [
                f"/v1/jobs/{api.fill_jobs(stand, number)}/metrics" for stand, number in ((small, 1000), (large, rows))
            ]
            self._postgres.execute("ANALYZE", small.database.engine.url.database or "")
            self._postgres.execute("ANALYZE", large.database.engine.url.database or "")
            lists = api.flatness(small, large, (api.LISTS, api.LISTS), rounds=self._counts.rounds, times=times)
            api.fill_metrics(large, rows)
            chart = api.flatness(
                small, large, ([curves[0]], [curves[1]]), rounds=self._counts.rounds, times=times
            )  # fmt: skip
        return [
            Line(
                f"{name}, p99 at 1000 and {rows} rows; ratio",
                f"{a:.1f} ms, {b:.1f} ms; {ratio:.2f}",
                "<= 1.2",
                ratio <= 1.2,
            )
            for name, (a, b, ratio) in (("list of jobs", lists), ("metric chart", chart))
        ]

    def downloads(self) -> list[Line]:
        """Downloads beside nginx."""
        if shutil.which("nginx") is None:
            return [Line("artifact download over nginx's", "nginx is not installed", ">= 0.8", ok=False)]
        with self._stand("SQLite") as stand:
            url, file = api.publish(stand, self._counts.size_mib)
            with api.nginx(self._folder / "nginx", file, free_port()) as theirs:
                ours, peer = api.interleaved(
                    [lambda: api.download(url, stand.headers), lambda: api.download(theirs)], 3 * self._counts.rounds
                )
        ratio = statistics.median(one / other for one, other in zip(ours, peer, strict=True))
        figure = f"{statistics.median(ours):.0f} MB/s, nginx {statistics.median(peer):.0f} MB/s; {ratio:.2f}"
        return [Line("artifact download; over nginx's", figure, ">= 0.8", ratio >= 0.8)]

    def peers(self) -> list[Line]:
        """Beside MLflow's tracking server, each on an SQLite file of its own as both start by default."""
        if self._peer is None:
            return [
                Line(
                    "beside MLflow",
                    "mlflow is not installed: pip install mlflow, then --mlflow PATH",
                    ">= 10 x",
                    ok=False,
                )
            ]
        with ExitStack() as stack:
            stand = stack.enter_context(self._stand("SQLite"))
            database = f"sqlite:///{self._folder / 'mlflow.db'}"
            peer = stack.enter_context(mlflow(self._peer, self._folder / "mlflow", database))
            url, file = api.publish(stand, min(64, self._counts.size_mib))
            theirs = peer.publish(file)
            sides = self._sides(stand, peer, url, theirs)
            return [self._beside(name, ours, other) for name, (ours, other) in sides.items()]

    def _sides(
        self, stand: Stand, peer: Mlflow, url: str, theirs: str
    ) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
        seconds, batches = self._counts.seconds / 2, self._counts.batches // 4
        return {
            "submit a job / create a run": (
                lambda: api.accept(stand, seconds=seconds, connections=8).per_second,
                lambda: peer.create_runs(seconds=seconds, connections=8).per_second,
            ),
            "get a job / get a run": (
                lambda: api.get(stand, seconds=seconds).per_second,
                lambda: peer.get_runs(seconds=seconds, connections=8).per_second,
            ),
            "metric points (ours by the worker into SQL, theirs by HTTP log-batch)": (
                lambda: runs.points_per_second(stand, batches=batches, points=1000),
                lambda: peer.points_per_second(batches=batches, points=1000),
            ),
            "download, MB": (lambda: api.download(url, stand.headers), lambda: api.download(theirs)),
        }  # fmt: skip

    def _beside(self, name: str, ours: Callable[[], float], theirs: Callable[[], float]) -> Line:
        a, b = api.interleaved([ours, theirs], self._counts.rounds)
        ratio = statistics.median(one / other for one, other in zip(a, b, strict=True))
        figure = f"{statistics.median(a):.0f}/s, MLflow {statistics.median(b):.0f}/s; {ratio:.1f} x"
        return Line(f"{name}, SQLite", figure, ">= 10 x", ratio >= 10)

    @contextmanager
    def _stand(self, database: str, *, api: bool = True, **settings: Any) -> Iterator[Stand]:
        """Give a new stand, with its API, on a database of its own, with the broker that goes with it."""
        self._number += 1
        folder = self._folder / f"stand-{self._number}"
        if database == "PostgreSQL":
            urls = self._postgres.url(self._postgres.create()), self._valkey.fresh()
        else:
            urls = f"sqlite:///{folder / 'retort.db'}", f"sqla+sqlite:///{folder / 'broker.db'}"
        with standing(folder, *urls, **settings) as stand:
            if api:
                stand.start_api()
            yield stand


LINES = ("accept", "jobs", "starts", "points", "polls", "tables", "downloads", "peers")


def table(lines: Sequence[Line]) -> str:
    """Return the lines for people."""
    rows = [("line", "figure", "goal", ""), *((o.line, o.figure, o.goal, "ok" if o.ok else "MISSED") for o in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]) for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0 when every goal is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="PATH", help="write the lines as JSON; - is standard output")
    parser.add_argument("--only", action="append", choices=LINES, help="one group of lines; may be repeated")
    parser.add_argument(
        "--quick", action="store_true", help="see whether the benchmark works; its figures mean nothing"
    )
    parser.add_argument("--mlflow", metavar="PROGRAM", default=shutil.which("mlflow"), help="the peer's program")
    options = parser.parse_args(arguments)
    about = provenance() | {"mlflow": version(options.mlflow) if options.mlflow else None}
    folder = tempfile.TemporaryDirectory(prefix="retort-bench-")
    lines: list[Line] = []
    with folder as name, running(Postgres()) as postgres, running(Valkey()) as valkey:
        bench = Bench(Path(name), postgres, valkey, QUICK if options.quick else WHOLE, options.mlflow)
        for group in options.only or LINES:
            lines += getattr(bench, group)()
            sys.stderr.write(table(lines[-2:]) + "\n")
    told = [asdict(one) for one in lines]
    if options.json == "-":
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        sys.stdout.write(table(lines) + "\n")
        if options.json:
            write_json(Path(options.json), {"provenance": about, "lines": told})
    return 0 if all(one.ok for one in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
