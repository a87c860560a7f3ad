"""Whether a home stays bounded: tiny jobs with retention on, and collectors that are killed all the time.

    python benchmarks/retention.py [--jobs 1000] [--workers 1] [--json FILE]

A real worker runs jobs whose runs do nothing but publish: a student, three checkpoints, a page that all share, curves.
Every retention is some seconds long. A collector runs beside the worker's, and is killed with SIGKILL again and again.
Every fiftieth job is pinned. At the end each key that a row names must be in the store, whole, and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from provenance import provenance, write_json
from retort.db import jobs
from retort.db.idempotency import IdempotencyKey
from retort.db.models import ArtifactRow, JobRow, ModelRow
from retort.db.session import database_now
from retort.keeping import Keeper
from retort.settings import Settings
from retort.spec import parse_spec
from retort.storage import Store
from service_stand import PATIENCE_S, Stand, eventually, standing
from sqlalchemy import func, select, update
from stored_results import stored

RUN = """#!/bin/sh
# A run that publishes what a small training does, and no more.
cd "$2"
while read -r line; do
  case $line in '"attempt":'*) n=${line#*: }; n=${n%,}; break ;; esac
done < inputs.json
journal=journal-$n.jsonl
for epoch in 1 2 3; do
  head -c 60000 /dev/urandom > epoch-$epoch.pt
  i=$((2 * epoch - 1))
  metrics='{"val/mAP50-95": 0.'$epoch'}'
  echo '{"type": "metric", "n": '$i', "at": 0, "role": "student", "step": '$epoch', "values": '"$metrics"'}'
  echo '{"type": "checkpoint", "n": '$((i + 1))', "at": 0, "role": "student", "epoch": '$epoch',' \\
    '"path": "epoch-'$epoch'.pt", "metrics": '"$metrics"'}'
done > "$journal"
head -c 60000 /dev/urandom > student.pt
head -c 200000 /dev/zero > report.html
for name in student.pt report.html; do
  n=$((${n} + 1)); i=$((i + 2))
  echo '{"type": "artifact", "n": '$i', "at": 0, "name": "'$name'", "role": "student", "path": "'$name'"}'
done >> "$journal"
echo '{"type": "finished", "n": '$((i + 1))', "at": 0, "result": '@RESULT@'}' >> "$journal"
"""
COLLECT = """
from retort.db import Database
from retort.keeping import Keeper, open_store
from retort.settings import Settings
settings = Settings()
database = Database(settings.database_url)
store = open_store(settings, database)
keeper = Keeper(database, lambda: store, settings)
while True:
    keeper.round()
"""
SHORT: dict[str, Any] = {
    "keep_jobs_s": 30, "keep_trash_s": 10, "keep_events_s": 10, "keep_metrics_s": 10, "keep_checkpoints_s": 5,
    "keep_keys_s": 10, "keep_unreferenced_s": 5, "keep_saved_s": 10, "keep_last_state_s": 10, "tidy_s": 5,
    "poll_s": 1, "log_json": True,
}  # fmt: skip
EVERY_S = 5.0
PINNED_EVERY = 50


@dataclass(frozen=True)
class Seen:
    """The home at one moment."""

    at_s: float
    ended: int
    """Jobs that have ended so far, those included that are gone."""
    rows: int
    """Jobs that the database has."""
    store_bytes: int
    files: int
    database_bytes: int
    broker_bytes: int
    work_bytes: int


def folder_bytes(folder: Path) -> tuple[int, int]:
    """Return the bytes and the number of the files in *folder*, of which some may be going."""
    sizes = []
    for top, _, names in os.walk(folder):  # which passes over folders that go meanwhile
        for name in names:
            try:
                sizes.append((Path(top) / name).stat().st_size)
            except FileNotFoundError:
                continue
    return sum(sizes), len(sizes)


def look(stand: Stand, begun: float, submitted: int) -> Seen:
    """Measure the home."""
    with stand.database.read() as session:
        rows = session.scalar(select(func.count()).select_from(JobRow)) or 0
        counted = jobs.counts(session)
    waiting = sum(number for state, number in counted.items() if state in {"queued", "running"})
    store_bytes, files = folder_bytes(stand.folder / "artifacts")
    sizes = {name: sum(one.stat().st_size for one in stand.folder.glob(f"{name}.db*")) for name in ("retort", "broker")}
    return Seen(
        at_s=time.monotonic() - begun, ended=submitted - waiting, rows=rows, store_bytes=store_bytes, files=files,
        database_bytes=sizes["retort"], broker_bytes=sizes["broker"],
        work_bytes=folder_bytes(stand.folder / "work")[0],
    )  # fmt: skip


def submit(stand: Stand, first: int, number: int) -> None:
    """Queue jobs, each under an idempotency key; pin every fiftieth."""
    spec = parse_spec(stand.document())
    with stand.database.begin() as session:
        now = database_now(session)
        wanted = [
            jobs.Submission(spec=spec, retries=3, key=IdempotencyKey(f"key-{index}", "default"))
            for index in range(first, first + number)
        ]
        made = [one.job_id for one in jobs.submit_all(session, wanted, now=now) if isinstance(one, jobs.SubmittedJob)]
        pinned = [job_id for index, job_id in enumerate(made, first) if index % PINNED_EVERY == 0]
        session.execute(update(JobRow).where(JobRow.id.in_(pinned)).values(keep=True))


class Collector:
    """A collector that is killed after a moment of its life, and started again."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._chance = random.Random(0)  # noqa: S311 - of no secret
        self.kills = 0
        self._start()

    def _start(self) -> None:
        self._stand.start_program("collector", "-c", COLLECT)
        self._process = self._stand.processes[-1]
        self._until = time.monotonic() + self._chance.uniform(1.0, 8.0)

    def turn(self) -> None:
        """Kill it if its time has come."""
        if time.monotonic() > self._until:
            self.close()
            self.kills += 1
            self._start()

    def close(self) -> None:
        """Kill it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def check(stand: Stand, settings: Settings) -> dict[str, int]:
    """Let everything settle; return what is missing, damaged or left over."""
    keeper = Keeper(stand.database, lambda: Store(settings.store_url), settings)
    eventually(lambda: _settled(keeper), PATIENCE_S, EVERY_S)
    with stand.database.read() as session:
        named = {key for row in (ArtifactRow, ModelRow) for key in session.scalars(select(row.key))}
        pinned = session.scalar(select(func.count()).select_from(JobRow).where(JobRow.keep.is_(True))) or 0
    folder = stand.folder / "artifacts"
    there = {path.relative_to(folder).as_posix() for path in (folder / "sha256").rglob("*") if path.is_file()}
    damaged = [
        key for key in named & there if hashlib.sha256((folder / key).read_bytes()).hexdigest() != Path(key).name
    ]
    found = {"named": len(named), "missing": len(named - there), "left over": len(there - named)}
    return {**found, "damaged": len(damaged), "pinned": pinned}


def _settled(keeper: Keeper) -> bool:
    """Return True once a whole pass over the store has found nothing more to take."""
    taken = [keeper.round() for _ in range(16)]
    return keeper.plan()[1].keys == 0 and not any(sum(one.numbers.values()) for one in taken)


def run(stand: Stand, *, number: int, workers: int) -> dict[str, object]:
    """Run *number* jobs; return what was seen."""
    program = stand.folder / "publish.sh"
    # In the program itself, because a confined run may read no other file of ours.
    program.write_text(RUN.replace("@RESULT@", shlex.quote(json.dumps(stored()))))
    for _ in range(workers):
        stand.start("retort_worker", "--run-command", "/bin/sh", str(program))
    collector, begun, submitted = Collector(stand), time.monotonic(), 0
    seen: list[Seen] = []
    while submitted < number or seen[-1].ended < number:
        collector.turn()
        if submitted < number and (not seen or submitted - seen[-1].ended < 20):
            submit(stand, submitted, 20)
            submitted += 20
        if not seen or time.monotonic() - begun - seen[-1].at_s >= EVERY_S:
            seen.append(look(stand, begun, submitted))
            sys.stderr.write(f"{json.dumps(asdict(seen[-1]))}\n")
        time.sleep(0.2)
    collector.close()
    settings = Settings(home=stand.folder, database_url=stand.database_url, broker_url=stand.broker_url, **SHORT)
    found = check(stand, settings)
    last = look(stand, begun, submitted)
    return {"kills": collector.kills, "check": found, "seen": [asdict(one) for one in (*seen, last)]}


def main() -> None:
    """Measure, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        home = Path(top) / "home"
        urls = (f"sqlite:///{home / 'retort.db'}", f"sqla+sqlite:///{home / 'broker.db'}")
        with standing(home, *urls, **SHORT) as stand:
            found = run(stand, number=options.jobs, workers=options.workers)
    sys.stdout.write(f"{json.dumps({name: found[name] for name in ('kills', 'check')})}\n")
    if options.json:
        write_json(options.json, {**provenance(), "jobs": options.jobs, **found})


if __name__ == "__main__":
    main()
