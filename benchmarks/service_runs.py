"""Lines about jobs that run: from submission to start, from submission to end, and what their runs say into SQL."""

from __future__ import annotations

import json
import shlex
import time
from functools import partial
from pathlib import Path

from retort.constants import Role
from retort.db import events, jobs, queue
from retort.db.session import database_now
from retort.protocol.events import MetricEvent
from retort.spec import parse_spec
from retort.states import JobState
from service_stand import Stand, eventually, percentile
from stored_results import stored

NO_OP = """#!/bin/sh
# The least that a run can do: say that it has finished, in the journal of its attempt.
while read -r line; do
  case $line in '"attempt":'*) n=${line#*: }; n=${n%,}; break ;; esac
done < "$2/inputs.json"
echo '{"type": "finished", "n": 1, "at": 0, "result": '@RESULT@'}' > "$2/journal-$n.jsonl"
"""


def start_workers(stand: Stand, *, workers: int) -> None:
    """Start workers whose runs do nothing, and wait until they listen."""
    program = stand.folder / "no-op.sh"
    # Inside of it: a run that is confined sees no other file beside its program.
    program.write_text(NO_OP.replace("@RESULT@", shlex.quote(json.dumps(stored()))))
    for _ in range(workers):
        stand.start("retort_worker", "--run-command", "/bin/sh", str(program))
    logs = list(stand.folder.glob("retort_worker-*.log"))
    eventually(lambda: all(" ready." in log.read_text(errors="replace") for log in logs))


def end_to_end(stand: Stand, *, number: int) -> float:
    """Queue *number* jobs at once; return how many a second ended, from the first start to the last end."""
    spec = parse_spec(stand.document())
    with stand.database.begin() as session:
        now = database_now(session)
        ids = [jobs.submit(session, spec, now=now, retries=0).job_id for _ in range(number)]
    eventually(lambda: _number(stand, JobState.SUCCEEDED) >= number, 600, 0.1)
    with stand.database.read() as session:
        rows = [jobs.get(session, job_id) for job_id in ids]
    begun, ended = min(row.started_at or 0.0 for row in rows), max(row.finished_at or 0.0 for row in rows)
    return number / (ended - begun)


def start_latencies(stand: Stand, *, number: int) -> list[float]:
    """Submit jobs over HTTP, one after the other; return the seconds from sending each to the start of its process.

    That is when the run's group is written down, at the earliest; the file's own time is compared with this clock.
    """
    taken = []
    for _ in range(number):
        sent = time.time()
        answer = stand.submit()
        job_id = answer.json()["id"]
        look = partial(_started, stand.folder / "work" / job_id)
        taken.append(eventually(look, every_s=0.0005) - sent)
        eventually(partial(_has_succeeded, stand, job_id))
    return taken


def points_per_second(stand: Stand, *, batches: int, points: int) -> float:
    """Record batches of metric lines as a worker's recorder does; return the points a second."""
    with stand.database.begin() as session:
        now = database_now(session)
        job_id = jobs.submit(session, parse_spec(stand.document()), now=now, retries=0).job_id
        lease = queue.claim(session, job_id, worker="w", host="h", now=now, lease_s=1e6)
    assert lease is not None
    names = [f"train/loss_{index}" for index in range(10)]
    n, begun = 0, time.perf_counter()
    for _ in range(batches):
        said = []
        for _ in range(points // len(names)):
            n += 1
            said.append(MetricEvent(n=n, at=1.0, role=Role.STUDENT, step=n, values=dict.fromkeys(names, 0.5)))
        with stand.database.begin() as session:
            assert events.record(session, lease, said, now=database_now(session), lease_s=30, journal_offset=n)
    return n * len(names) / (time.perf_counter() - begun)


def worst(values: list[float]) -> float:
    """Return the 99th percentile."""
    return percentile(values, 0.99)


def _started(folder: Path) -> float:
    try:
        return (folder / "run.group").stat().st_mtime
    except OSError:
        return 0.0


def _number(stand: Stand, state: JobState) -> int:
    with stand.database.read() as session:
        return jobs.counts(session)[state]


def _has_succeeded(stand: Stand, job_id: str) -> bool:
    with stand.database.read() as session:
        return jobs.get(session, job_id).state is JobState.SUCCEEDED
