"""What clients wish reaches the run, and what a run leaves behind serves the next one, wherever that is."""

from __future__ import annotations

import os
import shutil
import time

import pytest
from retort.db import jobs
from retort.protocol.workdir import COMPILED
from retort.states import AttemptState, JobState
from retort.storage import Store
from retort_worker.gpus import DevicePool
from retort_worker.loops import Housekeeper
from support.worker_harness import PATIENCE_S, House, eventually
from worker.test_supervisor import in_thread


def beginnings(house: House, job_id: str) -> list[int]:
    """After which epoch each attempt went on."""
    return [row.data["epoch"] for row in house.events(job_id) if (row.message or "").startswith("going on")]


def saved_epoch(house: House, job_id: str) -> int:
    recovery = house.job(job_id).recovery
    return recovery["epoch"] if recovery else 0


def test_a_paused_job_stops_and_goes_on_where_it_was(house: House):
    job_id = house.submit("train", epochs=40, retries=0)
    running = in_thread(house.supervision(job_id)[0])
    eventually(lambda: len(house.steps(job_id)) > 3)
    assert house.wish(jobs.pause, job_id) is JobState.PAUSING
    assert running.result(PATIENCE_S) is JobState.PAUSED
    done = len(house.steps(job_id))
    house.wish(jobs.resume, job_id)
    assert house.run(job_id) is JobState.SUCCEEDED
    assert beginnings(house, job_id) == [0, done]
    assert house.steps(job_id) == list(range(1, 41))
    assert [row.state for row in house.attempts(job_id)] == [AttemptState.HANDED_BACK, AttemptState.SUCCEEDED]


def test_a_job_that_is_resumed_while_it_stops_is_queued_again(house: House):
    job_id = house.submit("train", epochs=10_000)
    running = in_thread(house.supervision(job_id)[0])
    eventually(lambda: house.steps(job_id))
    house.wish(jobs.pause, job_id)
    house.wish(jobs.resume, job_id)
    # Either the worker never saw the pause, or it hands the job back.
    eventually(lambda: len(house.steps(job_id)) > 20 or running.done())
    if not running.done():
        house.cancel(job_id)
        assert running.result(PATIENCE_S) is JobState.CANCELLED
    else:
        assert running.result() is JobState.QUEUED


def test_a_job_that_finishes_early_keeps_and_publishes_what_it_has(house: House):
    job_id = house.submit("train", epochs=10_000)
    running = in_thread(house.supervision(job_id)[0])
    eventually(lambda: house.job(job_id).best)
    assert house.wish(jobs.finish_early, job_id) is JobState.RUNNING
    assert running.result(PATIENCE_S) is JobState.SUCCEEDED
    done = house.job(job_id).result["training"]["epochs"]
    assert 0 < done < 10_000
    assert house.content(house.artifacts(job_id)["student.pt"]) == f"student of {done} epochs".encode()


def test_another_machine_goes_on_from_what_was_saved_and_the_last_state_is_left_at_the_end(house: House):
    job_id = house.submit("train", epochs=300)
    first = house.workshop()
    running = in_thread(house.supervision(job_id, first)[0])
    eventually(lambda: saved_epoch(house, job_id) > 5)
    first.drain()
    assert running.result(PATIENCE_S) is JobState.QUEUED
    saved = saved_epoch(house, job_id)
    shutil.rmtree(house.home / "work")  # as on another machine
    store = Store(house.settings.store_url)
    assert store.saved_jobs() == [job_id]

    assert house.run(job_id) is JobState.SUCCEEDED
    assert beginnings(house, job_id) == [0, saved]
    assert house.steps(job_id) == list(range(1, 301))
    (last,) = house.job(job_id).recovery["files"]
    assert store.saved_keys(job_id) == [last["key"]], "neither what came before it, nor what only another attempt needs"
    Housekeeper(house.workshop(keep_last_state_s=0), DevicePool(1)).tidy_store()
    assert store.saved_jobs() == []


def test_an_extended_job_goes_on_from_the_last_state_of_the_other(house: House):
    parent = house.submit("train", epochs=5)
    assert house.run(parent) is JobState.SUCCEEDED
    child = house.extend(parent, 3)
    Housekeeper(house.workshop(keep_last_state_s=0), DevicePool(1)).tidy_store()  # it leaves what the child needs
    assert house.run(child) is JobState.SUCCEEDED
    assert (beginnings(house, child), house.steps(child)) == ([5], [6, 7, 8])
    store = Store(house.settings.store_url)
    assert sorted(store.saved_jobs()) == sorted([parent, child])
    Housekeeper(house.workshop(keep_last_state_s=0), DevicePool(1)).tidy_store()
    assert store.saved_jobs() == []


def test_an_operator_who_keeps_no_last_states_has_none_in_the_store(house: House):
    job_id = house.submit("train", epochs=5)
    assert house.run(job_id, keep_last_state_s=0) is JobState.SUCCEEDED
    assert house.job(job_id).recovery is None
    assert Store(house.settings.store_url).saved_jobs() == []


def test_on_the_same_machine_the_newer_state_in_its_folder_wins(house: House):
    job_id = house.submit("train", epochs=300)
    first = house.workshop()
    running = in_thread(house.supervision(job_id, first)[0])
    eventually(lambda: saved_epoch(house, job_id) > 3)
    first.drain()
    running.result(PATIENCE_S)
    states = house.workdir(job_id) / "work" / "student" / "states"
    (newest,) = states.iterdir()
    newest.rename(states / "00290.state")  # the run came further before it could say so
    assert house.run(job_id) is JobState.SUCCEEDED
    assert beginnings(house, job_id)[1] == 290


def test_only_the_latest_state_is_kept_in_the_store(house: House):
    job_id = house.submit("train", epochs=10_000)
    workshop = house.workshop()
    running = in_thread(house.supervision(job_id, workshop)[0])
    eventually(lambda: saved_epoch(house, job_id) > 20)
    workshop.drain()
    running.result(PATIENCE_S)
    files = house.job(job_id).recovery["files"]
    kept = eventually(lambda: [path for path in (house.home / "artifacts" / "saved").rglob("*") if path.is_file()])
    assert 1 <= len(kept) <= 3, "the one on record, and what came after it"
    assert {file["sha256"] for file in files} <= {path.name for path in kept}


def test_a_retry_goes_on_from_what_the_job_has_saved(house: House):
    job_id = house.submit("train", epochs=300)
    running = in_thread(house.supervision(job_id)[0])
    eventually(lambda: saved_epoch(house, job_id) > 3)
    house.cancel(job_id)
    assert running.result(PATIENCE_S) is JobState.CANCELLED
    parent = house.job(job_id)
    child = house.resubmit(parent)
    Housekeeper(house.workshop(), DevicePool(1)).tidy_store()  # it leaves what the child needs
    Housekeeper(house.workshop(keep_saved_s=0), DevicePool(1)).tidy_store()
    assert house.run(child) is JobState.SUCCEEDED
    assert beginnings(house, child) == [parent.recovery["epoch"]]
    assert house.steps(child) == list(range(parent.recovery["epoch"] + 1, 301))
    Housekeeper(house.workshop(keep_saved_s=0, keep_last_state_s=0), DevicePool(1)).tidy_store()
    assert house.job(job_id).recovery is None
    assert Store(house.settings.store_url).saved_jobs() == []


def test_a_job_whose_saved_bytes_are_gone_begins_anew(house: House):
    job_id = house.submit("train", epochs=300)
    workshop = house.workshop()
    running = in_thread(house.supervision(job_id, workshop)[0])
    eventually(lambda: saved_epoch(house, job_id) > 3)
    workshop.drain()
    running.result(PATIENCE_S)
    shutil.rmtree(house.home / "work")
    shutil.rmtree(house.home / "artifacts" / "saved")
    assert house.run(job_id) is JobState.SUCCEEDED
    assert beginnings(house, job_id) == [0, 0]


def test_a_run_that_does_not_get_on_is_ended_with_its_stacks_and_tried_again(small_house: House):
    job_id = small_house.submit("stuck", retries=1)
    assert small_house.run(job_id, step_timeout_s=0.5, setup_timeout_s=30.0) is JobState.QUEUED
    (attempt,) = small_house.attempts(job_id)
    assert attempt.failure["code"] == "stuck"
    assert "in stuck" in attempt.failure["log_excerpt"], "the stack names the function that hangs"


def test_a_job_that_has_run_for_as_long_as_it_may_fails_and_keeps_what_it_published(small_house: House):
    job_id = small_house.submit("checkpoint", max_runtime_s=5)
    assert small_house.run(job_id) is JobState.FAILED
    job = small_house.job(job_id)
    assert job.failure["code"] == "timeout"
    assert job.run_s >= 5
    assert "checkpoints/student-epoch-0001.pt" in small_house.artifacts(job_id)


def test_a_job_that_runs_out_of_memory_is_tried_with_half_the_batch_where_it_says_so(small_house: House):
    job_id = small_house.submit("tight", halve_batch=True)
    assert small_house.run(job_id) is JobState.QUEUED
    assert small_house.run(job_id) is JobState.SUCCEEDED
    assert "batch 8" in [row.message for row in small_house.events(job_id)]
    strict = small_house.submit("tight")
    assert small_house.run(strict) is JobState.FAILED


def test_folders_of_jobs_that_ended_elsewhere_are_removed(small_house: House):
    waiting, over = small_house.submit("finish"), small_house.submit("finish")
    for job_id in (waiting, over):
        small_house.workdir(job_id).mkdir(parents=True)
    small_house.cancel(over)
    Housekeeper(small_house.workshop(), DevicePool(1)).tidy_folders()
    assert small_house.workdir(waiting).exists()
    assert not small_house.workdir(over).exists()


def test_what_was_compiled_is_kept_as_long_as_runs_use_it(small_house: House):
    kept = small_house.workdir(COMPILED) / "inductor" / "ab"
    kept.mkdir(parents=True)
    for name, age_days in (("new", 0), ("used", 29), ("old", 31)):
        (kept / name).write_text(name)
        used = time.time() - age_days * 86_400
        os.utime(kept / name, (used, used))
    Housekeeper(small_house.workshop(), DevicePool(1)).tidy_compiled()
    assert {path.name for path in kept.iterdir()} == {"new", "used"}


def test_runs_of_one_project_on_a_worker_share_what_they_compile(small_house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)  # torch sets it in a process that has compiled
    folders = set()
    for _ in range(2):
        job_id = small_house.submit("show-inputs")
        assert small_house.run(job_id) is JobState.SUCCEEDED
        [told] = [row.data for row in small_house.events(job_id) if row.message == "inputs"]
        folders.add(told["compiled"])
    assert folders == {str(small_house.workdir(COMPILED) / "default" / "inductor")}
