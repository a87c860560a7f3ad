"""Artifacts: the list, and every way of fetching bytes."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from retort.chart_program import policy as policy_of
from retort.db import Database, Lease
from retort.settings import Settings
from retort.storage import Store
from support.api_harness import SPEC, Worker, serving

BYTES = bytes(range(256)) * 12_000  # about three mebibytes: more than one piece of the store
SHA256 = hashlib.sha256(BYTES)
ETAG = f'"sha256-{SHA256.hexdigest()}"'


@pytest.fixture(scope="module")
def shelf(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    """One artifact that nobody changes, and its address: for how bytes are sent, in which SQL has no part."""
    home = tmp_path_factory.mktemp("shelf")
    settings = Settings(home=home, database_url=f"sqlite:///{shutil.copy(sqlite_template, home / 'retort.db')}")
    with serving(settings) as client, closing(Database(settings.database_url)) as database:
        worker = Worker(database, Store(settings.store_url), home)
        job_id = client.post("/v1/jobs", json=SPEC).json()["id"]
        worker.publish(worker.claim(job_id), "student.pt", BYTES)
        yield client, f"/v1/jobs/{job_id}/artifacts/student.pt"


@pytest.fixture
def address(worker: Worker, lease: Lease) -> str:
    worker.publish(lease, "student.pt", BYTES)
    return f"/v1/jobs/{lease.job_id}/artifacts/student.pt"


def test_what_is_published_is_listed_while_the_job_runs(client: TestClient, worker: Worker, lease: Lease) -> None:
    home = f"/v1/jobs/{lease.job_id}/artifacts"
    worker.publish(lease, "checkpoints/student-epoch-0010.pt", b"ten")
    worker.publish(lease, "report.json", b"{}", media_type="application/json")

    found = client.get(home).json()["data"]

    assert [artifact["name"] for artifact in found] == ["checkpoints/student-epoch-0010.pt", "report.json"]
    assert found[0]["links"]["self"] == f"{home}/checkpoints/student-epoch-0010.pt"
    assert (found[0]["size_bytes"], found[0]["sha256"]) == (3, hashlib.sha256(b"ten").hexdigest())
    assert (found[0]["role"], found[0]["metadata"]) == ("student", {"epoch": 1})
    assert client.get(found[0]["links"]["self"]).content == b"ten"
    assert client.get(found[1]["links"]["self"]).headers["Content-Type"] == "application/json"


def test_a_download_says_what_it_is(client: TestClient, address: str) -> None:
    answer = client.get(address)

    assert (answer.status_code, answer.content) == (200, BYTES)
    assert answer.headers["Content-Length"] == str(len(BYTES))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"] == ETAG
    assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(SHA256.digest()).decode()}:"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="student.pt"'
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_head_says_the_same_without_bytes(client: TestClient, address: str) -> None:
    whole, head = client.get(address), client.head(address, headers={"Range": "bytes=0-1"})

    per_request = {"x-request-id"}
    assert (head.status_code, head.content) == (200, b"")
    assert {k: v for k, v in head.headers.items() if k not in per_request} == {
        k: v for k, v in whole.headers.items() if k not in per_request
    }


SIZE = len(BYTES)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("Bytes=10-19", 10, 20),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=1000000-", 1_000_000, SIZE),
        ("bytes=5-99999999999", 5, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        ("bytes=-99999999999", 0, SIZE),
    ],
)
def test_one_range_is_answered_with_that_part(shelf: tuple[TestClient, str], asked: str, start: int, end: int) -> None:
    client, address = shelf

    answer = client.get(address, headers={"Range": asked})

    assert (answer.status_code, answer.content) == (206, BYTES[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["Content-Length"] == str(end - start)
    assert answer.headers["ETag"] == ETAG
    assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(SHA256.digest()).decode()}:"


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=99999999999-", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(shelf: tuple[TestClient, str], asked: str) -> None:
    client, address = shelf

    answer = client.get(address, headers={"Range": asked})

    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,3-4", "bytes=", "bytes=-", "bytes=5-4", "lines=0-1", "bytes=a-b", "bytes=" + "9" * 30 + "-"]
)
def test_ranges_that_are_several_or_none_bring_everything(shelf: tuple[TestClient, str], asked: str) -> None:
    client, address = shelf

    answer = client.get(address, headers={"Range": asked})

    assert (answer.status_code, len(answer.content)) == (200, SIZE)


@pytest.mark.parametrize(
    ("condition", "status"),
    [(ETAG, 206), ('"sha256-00"', 200), (f"W/{ETAG}", 200), ("Mon, 23 Nov 2026 12:00:00 GMT", 200)],
)
def test_the_rest_is_sent_only_of_the_file_that_was_begun(
    shelf: tuple[TestClient, str], condition: str, status: int
) -> None:
    client, address = shelf

    answer = client.get(address, headers={"Range": "bytes=100-", "If-Range": condition})

    assert answer.status_code == status
    assert answer.content == BYTES[100 if status == 206 else 0 :]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("known", "status"), [(ETAG, 304), (f'"a", W/{ETAG}', 304), ("*", 304), ('"sha256-00"', 200), ("garbage", 200)]
)
def test_what_a_client_has_is_not_sent_again(
    shelf: tuple[TestClient, str], method: str, known: str, status: int
) -> None:
    client, address = shelf

    # A range would be refused: the condition comes first.
    headers = {"If-None-Match": known, **({"Range": "bytes=99999999999-"} if status == 304 else {})}
    answer = client.request(method, address, headers=headers)

    assert answer.status_code == status
    assert answer.headers["ETag"] == ETAG
    assert status == 200 or answer.content == b""


def test_a_later_file_of_the_same_name_has_another_etag(
    client: TestClient, worker: Worker, lease: Lease, address: str
) -> None:
    worker.publish(lease, "student.pt", b"better")

    answer = client.get(address, headers={"If-None-Match": ETAG, "Range": "bytes=3-", "If-Range": ETAG})

    assert (answer.status_code, answer.content) == (200, b"better")


def test_an_empty_file_is_sent_whole_and_has_no_range(client: TestClient, worker: Worker, lease: Lease) -> None:
    worker.publish(lease, "run.log", b"", media_type="text/plain; charset=utf-8")
    address = f"/v1/jobs/{lease.job_id}/artifacts/run.log"

    whole = client.get(address)

    assert (whole.status_code, whole.content, whole.headers["Content-Length"]) == (200, b"", "0")
    assert whole.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert client.get(address, headers={"Range": "bytes=0-"}).status_code == 416


def test_the_report_is_shown_in_a_sandbox_and_other_pages_are_not_shown(
    client: TestClient, worker: Worker, lease: Lease
) -> None:
    for name in ("report.html", "notes.html"):
        worker.publish(lease, name, b"<script>1</script>", media_type="text/html")

    report, notes = (client.get(f"/v1/jobs/{lease.job_id}/artifacts/{name}.html") for name in ("report", "notes"))

    assert report.headers["Content-Type"].startswith("text/html")
    assert report.headers["Content-Disposition"] == 'inline; filename="report.html"'
    policy = report.headers["Content-Security-Policy"]
    directives = {"sandbox allow-scripts allow-downloads", "default-src 'none'", policy_of("report")}
    assert directives <= set(policy.split("; "))
    assert "allow-same-origin" not in policy
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe" not in scripts
    assert notes.headers["Content-Disposition"].startswith("attachment")
    assert notes.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("a/b/größe.pt", "attachment; filename=\"gr__e.pt\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.pt"),
        ('q"uote.pt', "attachment; filename=\"q_uote.pt\"; filename*=UTF-8''q%22uote.pt"),
    ],
)
def test_names_that_headers_cannot_hold_are_encoded(
    client: TestClient, worker: Worker, lease: Lease, name: str, disposition: str
) -> None:
    worker.publish(lease, name, b"x", media_type="evil/type\r\nX-Injected: 1")

    answer = client.get(f"/v1/jobs/{lease.job_id}/artifacts/{quote(name)}")

    assert answer.headers["Content-Disposition"] == disposition
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "X-Injected" not in answer.headers
    assert client.get(f"/v1/jobs/{lease.job_id}/artifacts").json()["data"][0]["links"]["self"].endswith(quote(name))


@pytest.mark.parametrize("name", ["teacher.pt", "%00", "..%2f..%2fretort.db", "/etc/passwd", ""])
def test_an_unknown_artifact_is_not_found(client: TestClient, job_id: str, name: str) -> None:
    answer = client.get(f"/v1/jobs/{job_id}/artifacts/{name}")

    assert answer.status_code == 404
    assert answer.json()["code"] == "artifact_not_found"


def test_lost_bytes_are_a_problem_and_not_a_broken_download(
    client: TestClient, settings: Settings, address: str
) -> None:
    for path in (Path(settings.home) / "artifacts" / "sha256").rglob("*"):
        if path.is_file():
            path.unlink()

    answer = client.get(address)

    assert (answer.status_code, answer.json()["code"]) == (500, "artifact_bytes_missing")
