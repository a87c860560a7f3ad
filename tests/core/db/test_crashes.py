"""A process that is killed in the middle of a transaction leaves neither rows nor locks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from retort.states import JobState
from support.db_harness import Shop

TESTS = str(Path(__file__).parents[2])
WRITER = """
import sys

url, job_id, point, tests = sys.argv[1:]
sys.path.insert(0, tests)

from results import RESULT
from retort.db import Database, artifacts, events, queue, transitions
from retort.protocol.events import MetricEvent, StageEvent

FILE = artifacts.NewArtifact("student.pt", "student", "a" * 64, 1, "x", "k")

def here(name):
    if name == point:
        print(name, flush=True)
        sys.stdin.read()

with Database(url).begin() as session:
    lease = queue.claim(session, job_id, worker="doomed", host="h", now=1e6, lease_s=30)
    said = [StageEvent(n=1, at=1.0, stage="x"), MetricEvent(n=2, at=1.0, role="student", step=1, values={"a": 1.0})]
    events.record(session, lease, said, now=1.0, lease_s=30, journal_offset=9)
    here("recorded")
    artifacts.record(session, lease, FILE, now=1.0)
    transitions.succeed(session, lease, now=1.0, result=RESULT)
    here("succeeded")
"""


@pytest.mark.parametrize("point", ["recorded", "succeeded"])
def test_a_writer_that_is_killed_leaves_nothing_and_blocks_nobody(shop: Shop, database_url: str, point: str):
    job_id = shop.queued()
    before = shop.rows()
    command = [sys.executable, "-c", WRITER, database_url, job_id, point, TESTS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as doomed:
        assert doomed.stdout is not None
        assert doomed.stdout.readline().strip() == point
        doomed.kill()
    assert shop.rows() == before
    assert shop.claimed(job_id, worker="next").fence == 1
    assert shop.job(job_id).state is JobState.RUNNING
