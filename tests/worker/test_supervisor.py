"""One supervision at a time, with a real process, database and store."""

from __future__ import annotations

import json
import sqlite3
import threading
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from results import RESULT
from retort.states import AttemptState, JobState
from retort_worker.supervisor import RunSupervisor
from servers import Postgres
from sqlalchemy.exc import IntegrityError
from support.worker_harness import PATIENCE_S, House, alive, eventually


def settle(future: Future[JobState | None], supervision: RunSupervisor) -> None:
    try:
        future.set_result(supervision.run())
    except BaseException as error:  # noqa: BLE001 - raised where the result is read
        future.set_exception(error)


def in_thread(supervision: RunSupervisor) -> Future[JobState | None]:
    future: Future[JobState | None] = Future()
    threading.Thread(target=lambda: settle(future, supervision), daemon=True).start()
    return future


def test_a_run_that_finishes_makes_its_job_succeed(house: House):
    job_id = house.submit("finish", epochs=3)
    assert house.run(job_id) is JobState.SUCCEEDED
    job = house.job(job_id)
    assert (job.state, job.progress, job.stage) == (JobState.SUCCEEDED, 1.0, "distill")
    assert job.found == RESULT
    assert job.best["epoch"] == 3
    assert house.steps(job_id) == [1, 2, 3]
    assert [attempt.state for attempt in house.attempts(job_id)] == [AttemptState.SUCCEEDED]
    published = house.artifacts(job_id)
    assert set(published) == {"checkpoints/student-epoch-0001.pt", "run.log", "student.pt"}
    assert house.content(published["student.pt"]) == b"student"
    assert published["student.pt"].metadata_ == {"licence": "AGPL-3.0"}


def test_the_working_folder_goes_when_the_job_is_over(small_house: House):
    job_id = small_house.submit("finish")
    small_house.run(job_id)
    assert not small_house.workdir(job_id).exists()


def test_a_failure_that_a_retry_cannot_help_ends_the_job_with_its_log(house: House):
    job_id = house.submit("diverged")
    assert house.run(job_id) is JobState.FAILED
    failure = house.job(job_id).failure
    assert (failure["code"], failure["hint"]) == ("diverged", "lower training.lr")
    assert set(house.artifacts(job_id)) == {"run.log"}


def test_a_failure_that_a_retry_may_help_is_tried_again(house: House):
    job_id = house.submit("flaky", retries=1)
    assert house.run(job_id) is JobState.QUEUED
    assert house.run(job_id) is JobState.SUCCEEDED
    assert [attempt.state for attempt in house.attempts(job_id)] == [AttemptState.FAILED, AttemptState.SUCCEEDED]


def test_a_crash_without_a_last_word_fails_after_the_retries_with_the_end_of_the_log(house: House):
    job_id = house.submit("crash", retries=1)
    assert [house.run(job_id), house.run(job_id)] == [JobState.QUEUED, JobState.FAILED]
    failure = house.job(job_id).failure
    assert failure["code"] == "crashed"
    assert "exit code 3" in failure["message"]
    lines = failure["log_excerpt"].split("\n")
    assert len(lines) == 20
    assert lines[-1] == "line 39 \\x1b[31mlast line\\x1b[0m\\x07"
    assert [attempt.exit_code for attempt in house.attempts(job_id)] == [3, 3]


def test_a_run_that_the_kernel_kills_is_told_apart_and_hints_at_memory(small_house: House):
    job_id = small_house.submit("killed", retries=0)
    assert small_house.run(job_id) is JobState.FAILED
    failure = small_house.job(job_id).failure
    assert failure["code"] == "killed"
    assert "memory" in failure["hint"]


def test_inputs_that_cannot_be_used_fail_the_job_with_their_hint(small_house: House):
    job_id = small_house.submit("finish")
    (small_house.home / "data" / "data.yaml").unlink()
    assert small_house.run(job_id) is JobState.FAILED
    assert small_house.job(job_id).failure["code"] == "bad_data"


def test_a_journal_that_cannot_be_read_fails_the_attempt_and_kills_the_run(small_house: House):
    job_id = small_house.submit("garbage", retries=0)
    assert small_house.run(job_id) is JobState.FAILED
    assert small_house.job(job_id).failure["code"] == "bad_journal"


def test_a_file_outside_of_the_working_folder_is_not_published(small_house: House):
    (small_house.home / "outside.pt").write_bytes(b"secret")
    job_id = small_house.submit("outside")
    assert small_house.run(job_id) is JobState.FAILED
    assert small_house.job(job_id).failure["code"] == "not_stored"
    assert set(small_house.artifacts(job_id)) == {"run.log"}


def test_a_report_export_or_control_that_cannot_be_stored_does_not_fail_the_job(small_house: House):
    job_id = small_house.submit("lost-report", retries=0)
    assert small_house.run(job_id) is JobState.SUCCEEDED
    assert set(small_house.artifacts(job_id)) == {"student.pt", "run.log"}
    extras = small_house.job(job_id).result["extras"]
    assert {(one["name"], one["status"], one["code"]) for one in extras} == {
        (f"storage of {name}", "failed", "not_stored") for name in ("report.html", "student-fp32.onnx", "control.pt")
    }
    assert "report.html is not a file" in extras[0]["reason"]


def test_a_checkpoint_can_be_had_while_the_run_goes_on(house: House):
    job_id = house.submit("checkpoint")
    supervision, _ = house.supervision(job_id)
    running = in_thread(supervision)
    name = "checkpoints/student-epoch-0001.pt"
    found = eventually(lambda: house.artifacts(job_id).get(name))
    assert house.content(found) == b"first"
    assert house.job(job_id).state is JobState.RUNNING
    house.cancel(job_id)
    assert running.result(PATIENCE_S) is JobState.CANCELLED
    assert set(house.artifacts(job_id)) == {name, "run.log"}


def test_the_run_knows_nothing_of_the_workers_secrets(small_house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETORT_DATABASE_URL", "postgresql://user:secret@host/name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    job_id = small_house.submit("wait")
    supervision, _ = small_house.supervision(job_id)
    running = in_thread(supervision)
    said = eventually(lambda: [row for row in small_house.events(job_id) if "environment" in row.data])
    small_house.cancel(job_id)
    running.result(PATIENCE_S)
    environment = said[0].data["environment"]
    assert "secret" not in json.dumps(environment)
    assert environment["HOME"] == str(small_house.workdir(job_id))
    assert not [name for name in environment if name.startswith(("RETORT_", "AWS_"))]


def test_cancelling_kills_a_group_that_does_not_listen_children_included(house: House):
    job_id = house.submit("stubborn")
    supervision, _ = house.supervision(job_id, house.workshop(grace_s=0.5))
    running = in_thread(supervision)
    child = eventually(lambda: house.child(job_id))
    assert alive(child)
    house.cancel(job_id)
    assert running.result(PATIENCE_S) is JobState.CANCELLED
    assert not alive(child)
    assert house.attempts(job_id)[0].exit_code == -9


def test_a_child_that_a_finished_run_leaves_behind_is_killed(small_house: House):
    job_id = small_house.submit("leave-child")
    supervision, _ = small_house.supervision(job_id)
    assert supervision.run() is JobState.SUCCEEDED
    log = small_house.content(small_house.artifacts(job_id)["run.log"]).decode()
    assert log.startswith("child ")
    assert not small_house.child(job_id)


def test_draining_hands_the_job_back_without_using_a_retry(house: House):
    job_id = house.submit("steps", epochs=10_000, retries=2)
    workshop = house.workshop()
    supervision, _ = house.supervision(job_id, workshop)
    running = in_thread(supervision)
    eventually(lambda: house.steps(job_id))
    workshop.drain()
    assert running.result(PATIENCE_S) is JobState.QUEUED
    job = house.job(job_id)
    assert job.retries_left == 2
    assert house.attempts(job_id)[0].state is AttemptState.HANDED_BACK


def test_a_worker_that_was_fenced_off_kills_its_run_and_writes_nothing(house: House):
    job_id = house.submit("steps", epochs=10_000)
    supervision, _ = house.supervision(job_id)
    running = in_thread(supervision)
    eventually(lambda: house.steps(job_id))
    reaped = eventually(lambda: house.reap(after_s=60))  # which skips what is being renewed at this moment
    assert [lost.state for lost in reaped] == [JobState.QUEUED]
    recorded = len(house.events(job_id))
    assert running.result(PATIENCE_S) is None
    assert len(house.events(job_id)) == recorded
    assert house.artifacts(job_id) == {}
    assert house.attempts(job_id)[0].state is AttemptState.LOST
    assert house.job(job_id).state is JobState.QUEUED


def test_a_worker_whose_renewal_hangs_kills_its_run_before_the_lease_ends(small_house: House):
    job_id = small_house.submit("stubborn")
    supervision, _ = small_house.supervision(job_id, small_house.workshop(lease_s=3.0))
    running = in_thread(supervision)
    child = eventually(lambda: small_house.child(job_id))
    with closing(sqlite3.connect(small_house.home / "retort.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # every renewal now waits
        eventually(lambda: not alive(child))
        other.execute("ROLLBACK")
    assert running.result(PATIENCE_S) is None
    assert small_house.job(job_id).state is JobState.RUNNING
    assert small_house.artifacts(job_id) == {}


def test_a_database_that_is_away_for_a_while_loses_no_metric(tmp_path: Path, postgres: Postgres, postgres_url: str):
    with closing(House(tmp_path, postgres_url, "")) as house:
        job_id = house.submit("steps", epochs=300)
        supervision, _ = house.supervision(job_id, house.workshop(lease_s=20.0))
        running = in_thread(supervision)
        eventually(lambda: house.steps(job_id))
        name = house.database.engine.url.database
        with psycopg.connect(f"host={postgres.folder} user=postgres dbname=postgres", autocommit=True) as other:
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            step = house.workdir(job_id) / "step.txt"
            eventually(lambda: not step.exists() or int(step.read_text()) == 300)
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert running.result(PATIENCE_S) is JobState.SUCCEEDED
        assert house.steps(job_id) == list(range(1, 301))


def test_what_an_earlier_attempt_said_unheard_is_recorded_once_by_the_next(house: House):
    job_id = house.submit("linger", epochs=40)
    first = house.workshop()
    supervision, _ = house.supervision(job_id, first)
    running = in_thread(supervision)
    eventually(lambda: len(house.steps(job_id)) == 20)
    first.drain()
    assert running.result(PATIENCE_S) is JobState.QUEUED
    # As if the worker had died after the run had written these lines, before it recorded them.
    journal = house.workdir(job_id) / "journal-1.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    for number in (1, 2):
        said = {**json.loads(lines[0]), "n": len(lines) + 1, "step": number, "values": {"train/unheard": 1.0}}
        lines.append(json.dumps(said) + "\n")
    journal.write_text("".join(lines))
    assert house.run(job_id) is JobState.SUCCEEDED
    assert house.steps(job_id) == list(range(1, 41))
    assert house.steps(job_id, "train/unheard") == [1, 2]
    numbers = [row.n for row in house.events(job_id) if row.attempt == 1 and row.n is not None]
    assert numbers == list(range(1, len(lines) + 1))
    assert house.attempts(job_id)[0].journal_offset == len("".join(lines))


def test_publishing_and_success_are_one_transaction(small_house: House):
    job_id = small_house.submit("finish")
    refuse = (
        "CREATE TRIGGER refuse BEFORE UPDATE OF state ON jobs WHEN NEW.state = 'succeeded' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    with closing(sqlite3.connect(small_house.home / "retort.db")) as other:
        other.execute(refuse)
        with pytest.raises(IntegrityError, match="refused"):
            small_house.run(job_id)
        assert "student.pt" not in small_house.artifacts(job_id)
        assert small_house.job(job_id).state is JobState.RUNNING
        other.execute("DROP TRIGGER refuse")
    small_house.reap(after_s=60)
    assert small_house.run(job_id) is JobState.SUCCEEDED
    assert "student.pt" in small_house.artifacts(job_id)
