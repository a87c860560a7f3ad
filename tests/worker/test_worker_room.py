"""A worker does not fill its disk."""

from __future__ import annotations

from retort.states import JobState
from retort_worker.gpus import DevicePool
from retort_worker.worker import JobWorker
from support.worker_harness import House


def test_a_worker_whose_disk_is_too_full_claims_nothing(small_house: House):
    job_id = small_house.submit("finish")
    full = JobWorker(small_house.workshop(min_free_bytes=1 << 60), DevicePool())
    assert full.start() == []
    assert small_house.job(job_id).state is JobState.QUEUED
    [running] = JobWorker(small_house.workshop(), DevicePool()).start()
    running.join(60)
    assert small_house.job(job_id).state is JobState.SUCCEEDED
