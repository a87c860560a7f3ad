"""Workers announce what they can take; one without a GPU leaves jobs to one that has some."""

from __future__ import annotations

from retort.db import workers
from retort.db.models import WorkerRow
from retort.db.session import database_now
from retort_worker.gpus import DevicePool
from retort_worker.loops import Announcer
from support.worker_harness import House


def test_a_worker_is_listed_while_it_runs_with_its_gpus(house: House):
    workshop = house.workshop()
    announcer = Announcer(workshop, DevicePool(4, ["0", "1"]))
    announcer.start()
    announcer.announce()
    with house.database.read() as session:
        [row] = workers.running(session, now=database_now(session), within_s=house.workshop().settings.lease_s)
    assert (row.name, row.slots, row.gpus) == (workshop.worker, 2, 2)

    announcer.stop()

    with house.database.read() as session:
        assert not workers.running(session, now=database_now(session), within_s=1e9)


def test_a_worker_without_a_gpu_leaves_jobs_to_a_running_one_that_has_some(house: House):
    job_id = house.submit("finish")
    assert [job.job_id for job in house.workshop().waiting(None, 1)] == [job_id]

    with house.database.begin() as session:
        now = database_now(session)
        workers.announce(session, WorkerRow(name="gpus", host="other", slots=1, gpus=1, started_at=now, seen_at=now))

    assert house.workshop().waiting(None, 1) == []
    assert [job.job_id for job in house.workshop().waiting(1, 1)] == [job_id]


def test_a_gpu_worker_that_is_gone_holds_up_nothing(house: House):
    job_id = house.submit("finish")
    with house.database.begin() as session:
        gone = database_now(session) - 2 * house.workshop().settings.lease_s
        workers.announce(session, WorkerRow(name="gpus", host="other", slots=1, gpus=1, started_at=gone, seen_at=gone))

    assert [job.job_id for job in house.workshop().waiting(None, 1)] == [job_id]


def test_a_drained_worker_takes_no_job_until_it_may_again(house: House):
    job_id, workshop = house.submit("finish"), house.workshop()
    announcer = Announcer(workshop, DevicePool(1, []))
    announcer.announce()
    settings = workshop.settings

    def drained(at: float | None) -> list[str]:
        with house.database.begin() as session:
            workers.drain(session, workshop.worker, at=at, now=database_now(session), within_s=settings.lease_s)
        announcer.announce()
        return [job.job_id for job in workshop.waiting(None, 1)]

    assert drained(1.0) == []
    assert drained(None) == [job_id]
