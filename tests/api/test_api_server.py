"""The real process: streams that resume, downloads that resume, a stop that does not wait."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from results import RESULT
from retort.db import Database
from retort.protocol.events import LogEvent
from retort.storage import Store
from support.api_harness import SPEC, Process, Worker, started
from support.identity import HEADERS


@pytest.fixture(scope="module")
def server(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with started(sqlite_template, tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture
def backstage(server: Process, tmp_path: Path) -> Iterator[Worker]:
    with closing(Database(server.settings.database_url)) as database:
        yield Worker(database, Store(server.settings.store_url), tmp_path)


@contextmanager
def stream(server: Process, job_id: str, **headers: str) -> Iterator[Iterator[tuple[str, str, Any]]]:
    """Open a stream; yields id, event and data of each message."""
    url = f"{server.url}/v1/jobs/{job_id}/stream"
    with httpx2.stream("GET", url, headers={**HEADERS, **headers}, timeout=30) as answer:
        assert answer.status_code == 200
        yield ((m.id, m.event, json.loads(m.data)) for m in httpx2.EventSource(answer) if m.data)


def submit(server: Process) -> str:
    job_id: str = httpx2.post(f"{server.url}/v1/jobs", json=SPEC, headers=HEADERS).json()["id"]
    return job_id


def test_a_stream_resumes_where_its_connection_broke(server: Process, backstage: Worker) -> None:
    job_id = submit(server)
    with stream(server, job_id) as messages:
        first = next(messages)
        lease = backstage.claim(job_id)
        second = next(messages)

    backstage.record(lease, *[LogEvent(n=n, at=0.0, message=f"line {n}") for n in range(1, 4)])
    with stream(server, job_id, **{"Last-Event-ID": second[0]}) as messages:
        missed = [next(messages) for _ in range(3)]
        backstage.succeed(lease, RESULT)
        rest = list(messages)

    assert [message[0] for message in (first, second, *missed)] == ["1", "2", "3", "4", "5"]
    assert [message[2]["message"] for message in missed] == ["line 1", "line 2", "line 3"]
    assert [message[1] for message in rest] == ["state", "end"]


def test_news_reach_an_open_stream_within_a_second(server: Process, backstage: Worker) -> None:
    job_id = submit(server)
    with stream(server, job_id) as messages:
        next(messages)
        backstage.claim(job_id)
        begun = time.monotonic()
        message = next(messages)

        assert message[2]["data"]["state"] == "running"
        assert time.monotonic() - begun < 2


def test_a_download_that_broke_off_is_resumed_and_whole(server: Process, backstage: Worker, tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    job_id = submit(server)
    backstage.publish(backstage.claim(job_id), "student.pt", data)
    url = f"{server.url}/v1/jobs/{job_id}/artifacts/student.pt"
    part = tmp_path / "student.pt.part"

    with httpx2.stream("GET", url, headers=HEADERS) as answer, part.open("wb") as file:
        etag = answer.headers["ETag"]
        file.write(next(answer.iter_raw()))  # and then the line breaks
    begun = part.stat().st_size
    with httpx2.stream("GET", url, headers={**HEADERS, "Range": f"bytes={begun}-", "If-Range": etag}) as answer:
        assert answer.status_code == 206
        with part.open("ab") as file:
            file.writelines(answer.iter_raw())

    assert 0 < begun < len(data)
    assert f'"sha256-{hashlib.sha256(part.read_bytes()).hexdigest()}"' == etag
    assert part.read_bytes() == data


def test_head_over_the_wire_promises_the_length_and_sends_nothing(server: Process, backstage: Worker) -> None:
    job_id = submit(server)
    backstage.publish(backstage.claim(job_id), "student.pt", b"x" * 1000)

    with httpx2.Client(headers=HEADERS) as client:  # one connection: bytes too many would spoil the second answer
        for _ in range(2):
            answer = client.head(f"{server.url}/v1/jobs/{job_id}/artifacts/student.pt")
            assert (answer.status_code, answer.headers["Content-Length"]) == (200, "1000")
        assert client.get(f"{server.url}/livez").json()["status"] == "ok"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_open_streams_end_when_the_service_stops(sqlite_template: Path, tmp_path: Path, how: int) -> None:
    with started(sqlite_template, tmp_path) as server, stream(server, submit(server)) as messages:
        next(messages)
        begun = time.monotonic()
        server.process.send_signal(how)

        assert [message[1] for message in messages] == []  # ends, and not by an error
        assert server.process.wait(10) == 0
        assert time.monotonic() - begun < 5
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        assert [line["method"] for line in lines if line["event"] == "request"] == ["POST"]
        assert not [line for line in lines if line["level"] in {"error", "critical"}]


def test_importing_the_api_brings_no_training_and_no_numbers() -> None:
    heavy = ["torch", "torchvision", "ultralytics", "numpy", "cv2", "PIL", "alembic", "matplotlib", "plotly", "sklearn"]
    code = (
        "import sys, retort_api.app, retort_api.__main__\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )  # fmt: skip

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
