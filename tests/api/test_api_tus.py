"""An ordinary tus client sends a file, is cut off in the middle, and goes on."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient
from support.api_harness import Process, eventually, listening
from support.identity import HEADERS
from tusclient.client import TusClient

MEBIBYTE = 1 << 20
CONTENT = os.urandom(600_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def service(sqlite_template: Path, tmp_path: Path) -> Iterator[str]:
    with listening(sqlite_template, tmp_path) as url:
        yield url


def create(client: TestClient, size: int = len(CONTENT), **headers: str) -> str:
    answer = client.post("/v1/tus", headers={**TUS, "Upload-Length": str(size), **headers})
    assert answer.status_code == 201, answer.text
    return str(answer.headers["Location"])


def cut_off(url: str, offset: int, data: bytes, promised: int) -> None:
    """Promise more bytes than come, and hang up."""
    parts = urlsplit(url)
    head = {**HEADERS, **BYTES, "Upload-Offset": str(offset), "Content-Length": str(promised), "Host": parts.netloc}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    assert parts.hostname is not None
    with closing(socket.create_connection((parts.hostname, parts.port or 80))) as line:
        line.sendall(f"PATCH {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + data)


def offset_of(url: str) -> int:
    return int(httpx2.head(url, headers={**HEADERS, **TUS}).headers["Upload-Offset"])


def test_a_plain_client_goes_on_after_its_line_was_cut(service: str):
    client = TusClient(f"{service}/v1/tus", headers=dict(HEADERS))
    first = client.uploader(file_stream=io.BytesIO(CONTENT), chunk_size=100_000, metadata={"filename": "bccd.zip"})
    first.upload(stop_at=200_000)
    url = str(first.url)
    cut_off(url, 200_000, CONTENT[200_000:350_000], promised=400_000)
    assert eventually(lambda: offset_of(url) == 350_000 or None), "what came before the cut is kept"

    second = client.uploader(file_stream=io.BytesIO(CONTENT), chunk_size=100_000, url=url)
    second.upload()
    upload = httpx2.get(f"{service}/v1/uploads/{url.rpartition('/')[2]}", headers=HEADERS).json()
    assert (upload["state"], upload["sha256"], upload["name"]) == ("complete", SHA256, "bccd.zip")


def test_a_killed_service_loses_at_most_the_part_on_its_way(sqlite_template: Path, tmp_path: Path):
    (tmp_path / "retort.db").write_bytes(sqlite_template.read_bytes())
    content = os.urandom(17 * MEBIBYTE)
    with closing(Process(tmp_path, f"sqlite:///{tmp_path / 'retort.db'}")) as service:
        service.wait_until_up()
        headers = {**HEADERS, **TUS, "Upload-Length": str(len(content))}
        location = httpx2.post(f"{service.url}/v1/tus", headers=headers).headers["Location"]
        parts = urlsplit(service.url + location)
        head = {**HEADERS, **BYTES, "Upload-Offset": "0", "Content-Length": str(len(content)), "Host": parts.netloc}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        assert parts.hostname is not None
        with closing(socket.create_connection((parts.hostname, parts.port or 80))) as line:
            line.sendall(f"PATCH {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + content[:-1])
            url = service.url + location
            eventually(lambda: offset_of(url) == 16 * MEBIBYTE or None, within_s=60)
            service.process.kill()
            service.process.wait()
    assert list((tmp_path / "spool").iterdir()) == [], "nothing is left of the part on its way"
    with closing(Process(tmp_path, f"sqlite:///{tmp_path / 'retort.db'}")) as again:
        again.wait_until_up()
        url = again.url + location
        assert offset_of(url) == 16 * MEBIBYTE
        TusClient(f"{again.url}/v1/tus", headers=dict(HEADERS)).uploader(
            file_stream=io.BytesIO(content), url=url
        ).upload()
        upload = httpx2.get(f"{again.url}/v1/uploads/{url.rpartition('/')[2]}", headers=HEADERS).json()
    assert (upload["state"], upload["sha256"]) == ("complete", hashlib.sha256(content).hexdigest())


def test_bytes_with_another_checksum_are_not_kept(small_client: TestClient):
    url = create(small_client)
    wrong = base64.b64encode(hashlib.sha1(CONTENT, usedforsecurity=False).digest()).decode()
    head = {**BYTES, "Upload-Offset": "0", "Upload-Checksum": f"sha1 {wrong}"}
    answer = small_client.patch(url, content=CONTENT[:1000], headers=head)
    assert (answer.status_code, answer.json()["code"]) == (460, "bad_checksum")
    assert small_client.head(url, headers=TUS).headers["Upload-Offset"] == "0"
    right = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    answer = small_client.patch(url, content=CONTENT, headers={**head, "Upload-Checksum": f"sha256 {right}"})
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(len(CONTENT)))


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412, "tus_version"),
        ({"Upload-Offset": "7"}, 409, "upload_conflict"),
        ({"Content-Type": "application/octet-stream"}, 415, "unsupported_media_type"),
        ({"Upload-Checksum": "crc32 AAAA"}, 422, "bad_parameter"),
    ],
)
def test_a_request_that_tus_forbids_changes_nothing(
    small_client: TestClient, headers: dict[str, str], status: int, code: str
):
    url = create(small_client)
    answer = small_client.patch(url, content=CONTENT, headers={**BYTES, "Upload-Offset": "0", **headers})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert small_client.head(url, headers=TUS).headers["Upload-Offset"] == "0"


def test_more_bytes_than_announced_are_refused(small_client: TestClient):
    url = create(small_client, 1000)
    answer = small_client.patch(url, content=CONTENT, headers={**BYTES, "Upload-Offset": "0"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_what_the_service_speaks_is_told_and_an_upload_can_be_dropped(small_client: TestClient):
    told = small_client.options("/v1/tus").headers
    assert (told["Tus-Version"], "creation" in told["Tus-Extension"]) == ("1.0.0", True)
    url = create(small_client)
    assert small_client.delete(url, headers=TUS).status_code == 204
    assert small_client.head(url, headers=TUS).status_code == 404
