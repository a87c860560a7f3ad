"""``make chaos``: torments a whole service in every way that is promised to be harmless, and prints one table."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from chaos import broker, cancels, crash_points, database, drains, kills, real_runs, saves, stalled_workers
from chaos.ledger import Verdict
from chaos.table import Line, as_json, say, table
from servers import Postgres, Valkey, running


@dataclass(frozen=True)
class Counts:
    """How much of each."""

    kills: int
    zombies: int
    black_hole_s: float
    windows: int
    window_s: float
    storm_s: float
    throughput: float
    """What must be left of it; short windows on a busy machine say little."""
    dying_workers: int
    cancels: int
    drains: int
    saves: int
    trainings: int


WHOLE = Counts(500, 200, 120.0, 5, 6.0, 10.0, 0.95, 6, 200, 10, 500, 2)
QUICK = Counts(12, 8, 4.0, 1, 2.0, 1.0, 0.5, 2, 6, 1, 60, 0)


class Chaos:
    """All scenes on one pair of servers, each on a stage of its own."""

    def __init__(self, folder: Path, postgres: Postgres, valkey: Valkey, counts: Counts, seed: int) -> None:
        self._folder, self._postgres, self._valkey = folder, postgres, valkey
        self._counts, self._seed = counts, seed
        self._points = Verdict()

    def kills(self) -> list[Line]:
        """SIGKILL whatever there is."""
        verdict, done, num_jobs = kills.storm(
            self._folder / "kills", self._postgres, self._valkey, kills=self._counts.kills, seed=self._seed
        )
        self._note(verdict)
        return kills.lines(verdict, done, num_jobs)

    def zombies(self) -> list[Line]:
        """Let workers sleep past their leases."""
        verdict, count = stalled_workers.haunt(
            self._folder / "zombies", self._postgres, self._valkey, zombies=self._counts.zombies, seed=self._seed
        )
        self._note(verdict)
        return stalled_workers.lines(verdict, count)

    def broker(self) -> list[Line]:
        """Take the broker away."""
        verdict, starts = broker.torment(
            self._folder / "broker", self._postgres, black_hole_s=self._counts.black_hole_s
        )  # fmt: skip
        self._note(verdict)
        return broker.lines(verdict, starts, self._counts.black_hole_s)

    def database(self) -> list[Line]:
        """Take the database away."""
        verdict, ratios = database.torment(
            self._folder / "database",
            windows=self._counts.windows,
            window_s=self._counts.window_s,
            storm_s=self._counts.storm_s,
        )
        self._note(verdict)
        return database.lines(verdict, ratios, self._counts.throughput)

    def deaths(self) -> list[Line]:
        """Let workers die under the default times."""
        verdict, taken = crash_points.measure(
            self._folder / "deaths", self._postgres, self._valkey, workers=self._counts.dying_workers, slots=4
        )
        self._note(verdict)
        return crash_points.lines(verdict, taken)

    def cancels(self) -> list[Line]:
        """Cancel runs."""
        verdict, taken, orphans = cancels.measure(
            self._folder / "cancels", self._postgres, self._valkey, cycles=self._counts.cancels, seed=self._seed
        )
        self._note(verdict)
        return cancels.lines(verdict, taken, orphans)

    def drains(self) -> list[Line]:
        """Drain workers."""
        verdict, found = drains.measure(
            self._folder / "drains", self._postgres, self._valkey, cycles=self._counts.drains
        )  # fmt: skip
        self._note(verdict)
        return drains.lines(verdict, found)

    def saves(self) -> list[Line]:
        """Interrupt the saving of states."""
        return saves.lines(*saves.measure(self._folder / "saves", times=self._counts.saves, seed=self._seed))

    def trainings(self) -> list[Line]:
        """Lose the machines of real trainings."""
        if not self._counts.trainings:
            return []
        verdict, again = real_runs.measure(
            self._folder / "real", self._postgres, self._valkey, trainings=self._counts.trainings
        )  # fmt: skip
        self._note(verdict)
        return real_runs.lines(verdict, again)

    def points(self) -> list[Line]:
        """Sum up the metric points of all scenes so far."""
        wrong = self._points.points
        return [Line("metric points lost or doubled over all of that", str(len(wrong)), "0", not wrong)]

    def _note(self, verdict: Verdict) -> None:
        self._points += verdict
        for text in verdict.wrong():
            say(f"WRONG: {text}")


SCENES = ("kills", "zombies", "broker", "database", "cancels", "drains", "saves", "trainings")
"""One after the other; deaths is little work and much waiting, and goes beside them."""


def play(chaos: Chaos, only: Sequence[str]) -> list[Line]:
    """Play the scenes and return their lines."""
    lines: list[Line] = []
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[list[Line]] | None = pool.submit(_played, "deaths", chaos.deaths) if "deaths" in only else None
        for name in SCENES:
            if name in only:
                begun = time.monotonic()
                lines += _played(name, getattr(chaos, name))
                say(f"{name}: {time.monotonic() - begun:.0f} s")
        if waiting is not None:
            lines += waiting.result()
    return lines + chaos.points()


def _played(name: str, scene: Callable[[], list[Line]]) -> list[Line]:
    """Play one scene; one that breaks is a line that fails, and the others go on."""
    try:
        lines = scene()
    except Exception as error:  # noqa: BLE001 - whatever broke it, it has proven nothing
        traceback.print_exc()
        return [Line(name, f"broke: {error!r}", "-", ok=False)]
    say("\n" + table(lines))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every line holds."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, two minutes")
    parser.add_argument("--json", metavar="PATH", help="write the lines as JSON; - is standard output, without a table")
    parser.add_argument("--only", action="append", choices=[*SCENES, "deaths"], help="one scene; may be repeated")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args(arguments)
    say(f"seed {options.seed}")
    counts = QUICK if options.quick else WHOLE
    folder = tempfile.TemporaryDirectory(prefix="retort-chaos-")
    with folder as name, running(Postgres()) as postgres, running(Valkey()) as valkey:
        chaos = Chaos(Path(name), postgres, valkey, counts, options.seed)
        lines = play(chaos, options.only or [*SCENES, "deaths"])
    if options.json == "-":
        sys.stdout.write(as_json(lines))
    else:
        sys.stdout.write(table(lines) + "\n")
        if options.json:
            Path(options.json).write_text(as_json(lines))
    return 0 if all(one.ok for one in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
