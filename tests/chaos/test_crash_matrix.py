"""Whatever process is killed at whatever point: nothing that was accepted is lost, doubled, or left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from chaos.faulty import POINTS
from retort.states import AttemptState, JobState
from servers import free_port
from support.identity import HEADERS
from support.worker_harness import PATIENCE_S, House, document, eventually

FAULTY = Path(__file__).with_name("faulty.py")
OF_THE_API = [point for point in POINTS if "committed" in point]
ON_THE_WAY = ["while the job is handed back", "while a lost job is reaped"]
EPOCHS = 12
LEASE_S = 2.0


@pytest.fixture
def house(tmp_path: Path, postgres_url: str) -> Iterator[House]:
    made = House(tmp_path, postgres_url, f"sqla+sqlite:///{tmp_path / 'broker.db'}")
    yield made
    made.close()


def faulty_worker(house: House, point: str) -> subprocess.Popen[bytes]:
    return house.worker(program=(str(FAULTY), point, "retort_worker"), lease_s=LEASE_S)


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(PATIENCE_S)


def succeeds_once(house: House, job_id: str) -> None:
    """Let a healthy worker go on, and look at what became of the job."""
    house.worker(lease_s=LEASE_S)
    job = house.wait(job_id)
    assert job.state is JobState.SUCCEEDED, job.failure
    tries = house.attempts(job_id)
    assert [row.state for row in tries].count(AttemptState.SUCCEEDED) == 1
    assert tries[-1].state is AttemptState.SUCCEEDED
    assert AttemptState.RUNNING not in [row.state for row in tries]
    assert house.steps(job_id) == list(range(1, EPOCHS + 1))
    student = house.artifacts(job_id)["student.pt"]
    assert (student.attempt, house.content(student)) == (job.attempt, f"student of {EPOCHS} epochs".encode())
    assert [row.seq for row in house.events(job_id)] == list(range(1, job.last_seq + 1))
    eventually(lambda: not house.workdir(job_id).exists())


@pytest.mark.parametrize("point", [point for point in POINTS if point not in {*OF_THE_API, *ON_THE_WAY}])
def test_a_worker_that_is_killed_loses_nothing(house: House, point: str):
    job_id = house.submit("train", epochs=EPOCHS)
    assert ended(faulty_worker(house, point)) == -signal.SIGKILL
    succeeds_once(house, job_id)


def test_a_worker_that_is_killed_while_it_hands_its_job_back_loses_nothing(house: House):
    job_id = house.submit("train", epochs=10_000)
    worker = faulty_worker(house, "while the job is handed back")
    eventually(lambda: house.steps(job_id))
    worker.send_signal(signal.SIGTERM)
    assert ended(worker) == -signal.SIGKILL
    house.worker(lease_s=LEASE_S)
    eventually(lambda: house.job(job_id).attempt == 2)
    first = house.attempts(job_id)[0]
    assert first.state is AttemptState.LOST
    house.cancel(job_id)
    house.wait(job_id, JobState.CANCELLED)


def test_a_reaper_that_is_killed_reaps_nothing_twice_and_nothing_never(house: House):
    job_id = house.submit("train", epochs=EPOCHS)
    assert ended(faulty_worker(house, "after the run has started")) == -signal.SIGKILL
    assert ended(faulty_worker(house, "while a lost job is reaped")) == -signal.SIGKILL
    assert house.job(job_id).state is JobState.RUNNING
    succeeds_once(house, job_id)
    assert [row.state for row in house.attempts(job_id)] == [AttemptState.LOST, AttemptState.SUCCEEDED]


@pytest.mark.parametrize("point", OF_THE_API)
def test_a_submission_that_an_api_died_over_makes_one_job_when_it_is_sent_again(house: House, point: str):
    port = free_port()
    body = document(house.home, "train", epochs=EPOCHS)
    url, key = f"http://127.0.0.1:{port}/v1/jobs", {**HEADERS, "Idempotency-Key": "once"}
    with serving(house, port, (str(FAULTY), point, "retort_api")) as doomed:
        with pytest.raises(httpx.TransportError):
            httpx.post(url, json=body, headers=key, timeout=PATIENCE_S, trust_env=False)
        assert ended(doomed) == -signal.SIGKILL
    with serving(house, port, ("-m", "retort_api")):
        answer = httpx.post(url, json=body, headers=key, timeout=PATIENCE_S, trust_env=False)
        assert answer.status_code == 202
        assert ("Idempotency-Replayed" in answer.headers) == point.startswith("after")
        assert len(httpx.get(url, headers=HEADERS, trust_env=False).json()["data"]) == 1
    succeeds_once(house, answer.json()["id"])


class serving:  # noqa: N801 - it reads as a verb
    """An API process, once it answers."""

    def __init__(self, house: House, port: int, program: tuple[str, ...]) -> None:
        self._port = port
        given = {"home": house.home, "database_url": house.database_url, "broker_url": house.broker_url, "port": port}
        variables = {f"RETORT_{name.upper()}": str(value) for name, value in given.items()}
        with (house.home / "api.log").open("ab") as log:
            environment = {**os.environ, **variables}
            self._process = subprocess.Popen([sys.executable, *program], env=environment, stdout=log, stderr=log)

    def __enter__(self) -> subprocess.Popen[bytes]:
        eventually(self._answers)
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/livez", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False
