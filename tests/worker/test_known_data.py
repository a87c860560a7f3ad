"""Jobs on known data sets: what their owners are told before and instead of a run."""

from __future__ import annotations

from core.data import archives
from retort.db import jobs
from retort.db.session import database_now
from retort.spec import parse_spec
from retort.states import JobState
from support.worker_harness import House, document


def test_a_job_on_a_known_data_set_says_that_it_is_made_first(small_house: House):
    place = small_house.home / "datasets" / "archives"
    place.mkdir(parents=True)
    (place / "coco8.zip").write_bytes(archives.coco8()["coco8.zip"])
    spec = parse_spec({**document(small_house.home, "finish", epochs=1), "data": {"dataset": "coco8"}})
    with small_house.database.begin() as session:
        job_id = jobs.submit(session, spec, now=database_now(session), retries=0).job_id

    assert small_house.run(job_id, fetch_datasets=False) is JobState.SUCCEEDED

    told = [event.message for event in small_house.events(job_id) if event.type == "log"]
    assert told[0] == "the data set coco8 is not here yet: it is fetched (1 MB) and laid out first"


def test_a_known_data_set_that_may_not_be_fetched_fails_the_job_with_what_to_put_where(small_house: House):
    spec = parse_spec({**document(small_house.home, "finish", epochs=1), "data": {"dataset": "coco8"}})
    with small_house.database.begin() as session:
        job_id = jobs.submit(session, spec, now=database_now(session), retries=3).job_id

    assert small_house.run(job_id, fetch_datasets=False) is JobState.FAILED

    failure = small_house.job(job_id).failure
    assert failure is not None
    assert failure["code"] == "bad_data"
    assert str(small_house.home / "datasets" / "archives" / "coco8.zip") in failure["hint"]
