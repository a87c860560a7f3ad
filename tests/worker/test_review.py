"""A job that waits for people: its worker is free, what they are to look at is there, and any worker goes on."""

from __future__ import annotations

import shutil

from retort.db import jobs, reviews
from retort.db.session import database_now
from retort.review.models import ImageDecision, ReviewSet
from retort.states import AttemptState, JobState
from retort_worker.gpus import DevicePool
from retort_worker.loops import Housekeeper
from support.worker_harness import House


def complete(house: House, job_id: str, *decisions: ImageDecision) -> None:
    """Decide, and accept the rest."""
    proposals = ReviewSet.model_validate_json(house.content(house.artifacts(job_id)["review.json"]))
    with house.database.begin() as session:
        reviews.decide(session, job_id, decisions)
        reviews.complete(
            session, job_id, proposals, rest="accept", reviewer="ann", now=database_now(session), actor="client"
        )


def decided(house: House, job_id: str) -> list[str]:
    """What each attempt that went on was told."""
    return [row.message for row in house.events(job_id) if row.message and "decided" in row.message]


def test_a_job_that_waits_for_people_frees_its_worker_and_shows_what_they_are_to_look_at(house: House):
    job_id = house.submit("review", retries=0)
    assert house.run(job_id) is JobState.AWAITING_REVIEW
    job, (attempt,) = house.job(job_id), house.attempts(job_id)
    assert (job.worker, job.lease_until, job.retries_left, job.finished_at) == (None, None, 0, None)
    assert (attempt.state, attempt.exit_code, attempt.failure) == (AttemptState.HANDED_BACK, 3, None)
    published = house.artifacts(job_id)
    assert {"review.json", "review/a.jpg", "review/b.jpg"} <= published.keys()
    assert house.content(published["review/b.jpg"]) == b"b"
    assert [row.data for row in house.events(job_id) if row.type == "awaiting_review"] == [{"num_images": 2}]
    assert not house.reap(after_s=1e6)
    Housekeeper(house.workshop(), DevicePool(1)).tidy_folders()
    assert house.workdir(job_id).exists()


def test_it_goes_on_with_what_was_decided_on_the_same_machine(house: House):
    job_id = house.submit("review", retries=0)
    house.run(job_id)
    complete(house, job_id, ImageDecision(image="b", decision="reject", at=1.0))
    assert house.job(job_id).state is JobState.QUEUED
    assert house.run(job_id) is JobState.SUCCEEDED
    assert decided(house, job_id) == ["labelled; decided: [('a', 'accept'), ('b', 'reject')]"]
    assert "review/a.jpg" in house.artifacts(job_id)
    assert [row.state for row in house.attempts(job_id)] == [AttemptState.HANDED_BACK, AttemptState.SUCCEEDED]


def test_it_goes_on_with_what_was_decided_on_another_machine(house: House):
    job_id = house.submit("review", retries=0)
    house.run(job_id)
    shutil.rmtree(house.home / "work")
    complete(house, job_id)
    assert house.run(job_id) is JobState.SUCCEEDED
    assert decided(house, job_id) == ["labelled; decided: [('a', 'accept'), ('b', 'accept')]"]
    assert {"student.pt", "review.json", "review/a.jpg"} <= house.artifacts(job_id).keys()


def test_a_job_that_waits_is_cancelled_at_once_and_its_folder_goes(small_house: House):
    job_id = small_house.submit("review")
    small_house.run(job_id)
    assert small_house.wish(jobs.cancel, job_id) is JobState.CANCELLED
    Housekeeper(small_house.workshop(), DevicePool(1)).tidy_folders()
    assert not small_house.workdir(job_id).exists()


def test_a_retry_of_a_cancelled_wait_goes_on_with_what_was_saved(small_house: House):
    job_id = small_house.submit("review")
    small_house.run(job_id)
    small_house.cancel(job_id)
    shutil.rmtree(small_house.home / "work")
    child = small_house.resubmit(small_house.job(job_id))
    assert small_house.run(child) is JobState.AWAITING_REVIEW
    assert "review/a.jpg" in small_house.artifacts(child)


def test_the_first_attempt_of_a_retry_is_told_what_was_decided_about_the_job_before(small_house: House):
    job_id = small_house.submit("review")
    small_house.run(job_id)
    with small_house.database.begin() as session:
        reviews.decide(session, job_id, [ImageDecision(image="b", decision="reject", at=1.0)])
    small_house.cancel(job_id)
    child = small_house.resubmit(small_house.job(job_id))
    with small_house.database.begin() as session:
        reviews.inherit(session, job_id, child)
    assert small_house.run(child) is JobState.SUCCEEDED
    assert decided(small_house, child) == ["labelled; decided: [('b', 'reject')]"]


def test_a_job_whose_pictures_could_not_be_stored_does_not_wait_for_people(small_house: House):
    job_id = small_house.submit("lost-picture", retries=0)
    assert small_house.run(job_id) is JobState.FAILED
    assert small_house.job(job_id).failure["code"] == "not_stored"


def test_a_job_that_is_told_to_pause_while_it_ends_to_wait_is_paused_and_waits_when_it_is_resumed(small_house: House):
    job_id = small_house.submit("review")
    supervision, _ = small_house.supervision(job_id)
    small_house.wish(jobs.pause, job_id)
    assert supervision.run() is JobState.PAUSED
    small_house.wish(jobs.resume, job_id)
    assert small_house.run(job_id) is JobState.AWAITING_REVIEW


def test_a_job_that_is_cancelled_while_it_ends_to_wait_is_cancelled(small_house: House):
    job_id = small_house.submit("review")
    supervision, _ = small_house.supervision(job_id)
    small_house.cancel(job_id)
    assert supervision.run() is JobState.CANCELLED
    assert small_house.job(job_id).state is JobState.CANCELLED
