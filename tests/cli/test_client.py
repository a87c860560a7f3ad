"""The HTTP client against a real service: what it repeats, resumes and verifies."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.commands import ROOT, SPEC, environment
from retort import chart_program
from retort.cli.spec import load
from retort.client.calls import Call
from retort.client.client import Client
from retort.client.download import Partial
from retort.client.transport import ClientError
from retort.files import sha256_of


@pytest.fixture(scope="module")
def client(service: str, key: str) -> Iterator[Client]:
    with Client(service, key=key) as client:
        yield client


@pytest.fixture(scope="module")
def finished(client: Client) -> str:
    """A job that has published a file of three million bytes."""
    job_id: str = client.submit(load(str(SPEC), ["name=first-job"]))["id"]
    assert client.wait(job_id, timeout_s=60, every_s=0.1)["state"] == "succeeded"
    return job_id


def partial(client: Client, job_id: str, path: Path) -> Partial:
    return Partial.promised(path, client._send(Call("HEAD", f"/v1/jobs/{job_id}/artifacts/student.pt")).headers)


def test_a_download_is_whole_and_verified(client: Client, finished: str, tmp_path: Path):
    [artifact] = [item for item in client.artifacts(finished) if item["name"] == "student.pt"]

    path = client.download(finished, "student.pt", tmp_path / "student.pt")

    assert hashlib.sha256(path.read_bytes()).hexdigest() == artifact["sha256"]
    assert [found.name for found in tmp_path.iterdir()] == ["student.pt"]


def test_a_broken_download_goes_on_where_it_stopped(client: Client, finished: str, tmp_path: Path):
    part = partial(client, finished, tmp_path / "student.pt")
    part.part.write_bytes(b"s" * 2_999_000)
    seen: list[tuple[int, int]] = []

    client.download(finished, "student.pt", part.path, progress=lambda *sizes: seen.append(sizes))

    assert seen == [(3_000_000, 3_000_000)]
    assert part.path.read_bytes() == b"s" * 3_000_000


def test_what_was_left_damaged_is_not_taken_for_the_file(client: Client, finished: str, tmp_path: Path):
    part = partial(client, finished, tmp_path / "student.pt")
    part.part.write_bytes(b"x" * 1000)

    with pytest.raises(ClientError, match="damaged") as caught:
        client.download(finished, "student.pt", part.path)

    assert caught.value.code == "digest_mismatch"
    assert not list(tmp_path.iterdir())
    assert sha256_of(client.download(finished, "student.pt", part.path)) == part.sha256


def test_a_file_that_is_there_already_is_not_fetched_again(client: Client, finished: str, tmp_path: Path):
    path = client.download(finished, "student.pt", tmp_path / "student.pt")
    seen: list[int] = []

    client.download(finished, "student.pt", path, progress=lambda done, _: seen.append(done))

    assert seen == []


def test_the_stream_resumes_after_an_event_and_ends_with_the_job(client: Client, finished: str):
    whole = list(client.stream(finished))

    assert whole == list(client.events(finished))
    assert list(client.stream(finished, after=whole[1]["seq"])) == whole[2:]


def test_a_problem_document_becomes_an_error_with_its_code(client: Client):
    with pytest.raises(ClientError) as caught:
        client.get("job_" + "0" * 32)

    assert (caught.value.status, caught.value.code) == (404, "job_not_found")
    assert caught.value.request_id
    assert not caught.value.retryable


def test_waiting_gives_up_at_its_deadline(client: Client):
    job_id = client.submit(load(str(SPEC), ["name=wait"]))["id"]
    try:
        with pytest.raises(TimeoutError, match=job_id):
            client.wait(job_id, timeout_s=0.3)
    finally:
        client.cancel(job_id)
        client.wait(job_id, timeout_s=60)


@pytest.mark.parametrize("command", [[sys.executable, "examples/first_job.py"], ["bash", "examples/first_job.sh"]])
def test_the_readmes_first_job_works_as_it_is_printed(command: list[str], ready: dict[str, Any], tmp_path: Path):
    program, script = command
    data = ROOT / "examples" / "data" / "digits"

    done = subprocess.run(
        [program, str(ROOT / script), ready["url"], str(data)],
        cwd=tmp_path, env=environment(home=ready["home"]), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "student.pt").stat().st_size == 3_000_000
    assert Path(script).name in (ROOT / "README.md").read_text()


def test_a_downloaded_report_opens_without_the_service(
    client: Client, submitted: Callable[[str, int], str], tmp_path: Path
):
    job_id = submitted("edge-student", 1)
    client.wait(job_id)
    for _ in range(2):
        page = client.download(job_id, "report.html", tmp_path / "report.html").read_bytes()
        assert chart_program.reference_in(page) is None
        assert chart_program.embedded().encode() in page
