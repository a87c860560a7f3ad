"""What a job has trained is registered with its end, and a later job starts from it by its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from retort.db import jobs, model_registry
from retort.db.models import ModelRow
from retort.db.session import database_now
from retort.model_ref import ModelRef
from retort.spec import parse_spec
from retort.states import JobState
from support.scripted_run import archive
from support.worker_harness import House, document

TEACHER = hashlib.sha256(archive(b"teacher")).hexdigest()
STUDENT = hashlib.sha256(archive(b"student")).hexdigest()


def models(house: House) -> dict[str, ModelRow]:
    with house.database.read() as session:
        return {row.name: row for row in model_registry.page(session)}


def submit(house: House, script: str, **changes: Any) -> str:
    """A job whose teacher, or student, starts from what *changes* say."""
    spec = parse_spec({**document(house.home, script, epochs=1), **changes})
    with house.database.begin() as session:
        return jobs.submit(session, spec, now=database_now(session), retries=0).job_id


def started_from(house: House, job_id: str) -> dict[str, str]:
    """The weights that the run found in its inputs."""
    (event,) = [event for event in house.events(job_id) if event.message == "inputs"]
    found: dict[str, str] = event.data["weights"]
    return found


def test_a_job_that_succeeds_registers_its_teacher_and_its_student(house: House):
    job_id = house.submit("teach")
    assert house.run(job_id) is JobState.SUCCEEDED
    found = models(house)
    assert {name: row.sha256 for name, row in found.items()} == {"teach-teacher": TEACHER, "teach-student": STUDENT}
    teacher = found["teach-teacher"]
    assert (teacher.architecture, teacher.imgsz, teacher.classes) == ("yolo11s", 64, ["thing"])
    assert (teacher.job_id, teacher.dataset_digest, teacher.metrics) == (job_id, "d" * 64, {"val/mAP50": 0.5})
    said = [event.message for event in house.events(job_id) if event.type == "log"]
    assert f"registered as {ModelRef('teach-teacher', TEACHER)}" in said
    assert f"registered as {ModelRef('teach-student', STUDENT)}" in said


def test_a_second_job_with_the_same_outcome_registers_nothing_new(small_house: House):
    for _ in range(2):
        assert small_house.run(small_house.submit("teach")) is JobState.SUCCEEDED
    assert len(models(small_house)) == 2


def test_a_job_that_fails_after_its_teacher_registers_the_teacher_alone(house: House):
    assert house.run(house.submit("teach-and-fail")) is JobState.FAILED
    assert list(models(house)) == ["teach-and-fail-teacher"]


def test_a_failure_that_is_tried_again_registers_nothing_yet(small_house: House):
    job_id = small_house.submit("flaky", retries=1)
    assert small_house.run(job_id) is JobState.QUEUED
    assert models(small_house) == {}


def test_a_later_job_starts_from_a_registered_model(house: House):
    house.run(house.submit("teach"))
    reference = str(ModelRef("teach-teacher", TEACHER))
    job_id = submit(house, "show-inputs", teacher={"weights": reference})
    assert house.run(job_id) is JobState.SUCCEEDED
    path = house.home / "models" / "registered" / f"teach-teacher@sha256-{TEACHER}.pt"
    assert path.read_bytes() == archive(b"teacher")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    converted = Path(started_from(house, job_id)[reference])
    assert converted == house.home / "models" / "converted" / TEACHER / path.name


def test_a_request_for_advice_brings_all_its_candidates(small_house: House):
    small_house.run(small_house.submit("teach"))
    named = [str(ModelRef("teach-teacher", TEACHER)), str(ModelRef("teach-student", STUDENT))]
    spec = parse_spec({
        "task": "advise", "name": "show-inputs", "data": {"path": str(small_house.home / "data")},
        "student": {"weights": None}, "candidates": named,
    })  # fmt: skip
    with small_house.database.begin() as session:
        job_id = jobs.submit(session, spec, now=database_now(session), retries=0).job_id
    assert small_house.run(job_id) is JobState.SUCCEEDED
    assert set(started_from(small_house, job_id)) == set(named)


def test_a_damaged_file_in_the_model_folder_is_fetched_anew(small_house: House):
    small_house.run(small_house.submit("teach"))
    reference = ModelRef("teach-teacher", TEACHER)
    kept = small_house.home / "models" / "registered" / reference.file_name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"damaged")
    job_id = submit(small_house, "show-inputs", teacher={"weights": str(reference)})
    assert small_house.run(job_id) is JobState.SUCCEEDED
    assert kept.read_bytes() == archive(b"teacher")


@pytest.mark.parametrize("name", ["teach-teacher", "nobody"])
def test_a_digest_that_nobody_has_registered_fails_the_job_with_those_that_there_are(house: House, name: str):
    house.run(house.submit("teach"))
    job_id = submit(house, "show-inputs", teacher={"weights": f"model:{name}@sha256:{'0' * 64}"})
    assert house.run(job_id) is JobState.FAILED
    failure = house.job(job_id).failure
    assert failure["code"] == "bad_model"
    assert f"no model '{name}' with the digest sha256:{'0' * 64}" in failure["message"]
    expected = f"newest first: sha256:{TEACHER}" if name == "teach-teacher" else "nothing is registered by that name"
    assert expected in failure["hint"]


def test_bytes_that_the_store_has_lost_are_told(small_house: House):
    small_house.run(small_house.submit("teach"))
    (small_house.home / "artifacts" / "sha256" / TEACHER[:2] / TEACHER).unlink()
    job_id = submit(small_house, "show-inputs", teacher={"weights": str(ModelRef("teach-teacher", TEACHER))})
    assert small_house.run(job_id) is JobState.FAILED
    failure = small_house.job(job_id).failure
    assert failure["code"] == "bad_model"
    assert f"the bytes of model:teach-teacher@sha256:{TEACHER} are lost" in failure["message"]
    assert "retort models push" in failure["hint"]
