"""A service whose store is S3: parts go to the bucket by signed addresses, and all else that a store has to do."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import pytest
from retort.access import ClientRole
from retort.client import Client
from retort.client.transport import ClientError
from retort.client.uploads import Content
from retort.db import artifacts
from retort.keeping import Keeper
from retort.states import JobState
from retort.storage import Store
from retort_worker.dataset_intake import DatasetIntake
from support.identity import HEADERS, add_key
from support.worker_harness import House, document

if TYPE_CHECKING:
    from support.s3_server import Bucket

pytestmark = pytest.mark.usefixtures("bucket")  # before a service asks where its store is

PART = 1 << 20
STRAY = next(text for number in range(1000) if hashlib.sha256(text := str(number).encode()).digest()[0] < 16)


@pytest.fixture
def house(served_house: House) -> House:
    return served_house


def begun(client: Client, data: bytes, **about: Any) -> tuple[dict[str, Any], list[str]]:
    """Begin an upload in parts of one mebibyte; return it, and the parts' signed addresses."""
    body = {"size_bytes": len(data), "part_bytes": PART, "sha256": hashlib.sha256(data).hexdigest(), **about}
    upload = asked(client, "/v1/uploads", json=body)
    return upload, [one["url"] for one in client.uploads.links(upload["id"])]


def asked(client: Client, path: str, **request: Any) -> Any:
    answer = httpx2.post(client.url + path, headers=HEADERS, **request)
    assert answer.is_success, answer.text
    return answer.json()


def sent(client: Client, bucket: Bucket, path: Path) -> dict[str, Any]:
    """Send a file, and make sure that the service had no part of it."""
    number = len(bucket.server.asked)
    upload = client.uploads.send(Content.of(path))
    incoming = [
        size for method, key, size in bucket.server.asked[number:] if method == "PUT" and "/incoming/" in key and size
    ]
    assert sum(incoming) >= path.stat().st_size
    return upload


def test_parts_go_to_the_bucket_by_signed_addresses_and_the_service_checks_the_whole(
    client: Client, bucket: Bucket, tmp_path: Path
):
    (path := tmp_path / "file.zip").write_bytes(os.urandom(17 * PART))
    upload = sent(client, bucket, path)
    assert (upload["state"], upload["links"]["signed"]) == ("complete", None)
    assert upload["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (bucket.keys("incoming/"), bucket.server.refused) == ([], [])
    assert sorted(bucket.keys("sha256/")) == sorted(
        f"sha256/{one['sha256'][:2]}/{one['sha256']}" for one in upload["parts"]
    )


def test_a_client_that_was_cut_sends_no_part_again_that_is_in_the_bucket(
    client: Client, bucket: Bucket, tmp_path: Path
):
    (path := tmp_path / "file.zip").write_bytes(os.urandom(40 * PART))

    def stop(done: int, _: int) -> None:
        if done >= 16 * PART:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.uploads.send(Content.of(path), stop)
    number = len(bucket.server.asked)
    upload = client.uploads.send(Content.of(path))
    again = sum(size for method, key, size in bucket.server.asked[number:] if "/incoming/" in key and method == "PUT")
    assert upload["state"] == "complete"
    assert again <= 24 * PART, "what was there is not sent again"


def test_what_is_altered_unsigned_for_another_part_or_over_is_refused_by_the_bucket(client: Client, bucket: Bucket):
    data = os.urandom(2 * PART)
    upload, (first, second) = begun(client, data)
    plain = first.partition("?")[0]
    signature = first.rpartition("=")[2]
    altered = first[:-1] + ("0" if first[-1] != "0" else "1")
    longer = first.replace("X-Amz-Expires=3600", "X-Amz-Expires=36000")
    elsewhere = f"{urlsplit(second)._replace(query='').geturl()}?{urlsplit(first).query}"
    assert signature != first
    for url in (plain, altered, longer, elsewhere):
        assert httpx2.put(url, content=data[:PART]).status_code == 403
    assert httpx2.get(first).status_code == 403, "an address to send to shows nothing"
    bucket.server.later_s = 3601.0
    assert httpx2.put(first, content=data[:PART]).status_code == 403
    bucket.server.later_s = 0.0
    assert bucket.keys("incoming/") == []
    assert httpx2.put(first, content=data[:PART]).status_code == 200
    assert client.uploads.get(upload["id"])["missing"] == [1, 2], "it counts once it was looked at"


def test_a_client_whose_addresses_are_over_asks_for_others(client: Client, bucket: Bucket, tmp_path: Path):
    (path := tmp_path / "file.zip").write_bytes(os.urandom(17 * PART))
    bucket.server.to_refuse = 1
    assert client.uploads.send(Content.of(path))["state"] == "complete"
    assert len(bucket.server.refused) == 1
    taken = [size for method, key, size in bucket.server.asked if method == "PUT" and "/incoming/" in key and size]
    assert sorted(taken) == [PART, 8 * PART, 8 * PART], "each part went there once"


def test_what_the_bucket_does_not_take_goes_through_the_service(client: Client, bucket: Bucket, tmp_path: Path):
    (path := tmp_path / "file.zip").write_bytes(os.urandom(17 * PART))
    bucket.server.to_refuse = 1000
    seen: list[int] = []
    assert client.uploads.send(Content.of(path), lambda done, _: seen.append(done))["state"] == "complete"
    assert (seen[0], seen[-1], len(seen)) == (0, 17 * PART, 4), "progress counts each part once"
    assert not any(key.endswith(("/1", "/2", "/3")) for method, key, _ in bucket.server.asked if method == "PUT")


def test_a_part_of_another_size_or_digest_is_not_taken_and_does_not_stay(client: Client, bucket: Bucket):
    data = os.urandom(2 * PART)
    parts = [{"sha256": hashlib.sha256(piece).hexdigest(), "size_bytes": PART} for piece in (data[:PART], data[PART:])]
    upload, links = begun(client, data, parts=parts, part_bytes=None)
    for wrong in (data[:PART] + b"x", data[: PART - 1]):
        assert httpx2.put(links[0], content=wrong).status_code == 200
        with pytest.raises(ClientError) as missing:
            client.uploads.complete(upload["id"])
        assert missing.value.code == "upload_conflict"
        assert bucket.keys("incoming/") == []
    assert httpx2.put(links[0], content=data[PART:]).status_code == 200
    with pytest.raises(ClientError) as damaged:
        client.uploads.complete(upload["id"])
    assert (damaged.value.code, client.uploads.get(upload["id"])["missing"]) == ("bad_digest", [1, 2])
    for link, piece in zip(links, (data[:PART], data[PART:]), strict=True):
        assert httpx2.put(link, content=piece).status_code == 200
    assert client.uploads.complete(upload["id"])["state"] == "complete"


def test_a_file_that_is_not_the_announced_one_is_not_complete_though_its_parts_fit(client: Client, bucket: Bucket):
    data = os.urandom(2 * PART)
    upload, links = begun(client, data, sha256="0" * 64)
    for link, piece in zip(links, (data[:PART], data[PART:]), strict=True):
        assert httpx2.put(link, content=piece).status_code == 200
    with pytest.raises(ClientError) as damaged:
        client.uploads.complete(upload["id"])
    assert damaged.value.code == "bad_digest"
    assert client.uploads.get(upload["id"])["state"] == "open"
    assert bucket.keys("incoming/") == []


def test_another_project_gets_no_address_of_an_upload(client: Client, service: str, house: House):
    upload, _ = begun(client, os.urandom(PART))
    eve = add_key(house.database, "eve", ClientRole.SUBMITTER, project="eve", owner="eve")
    for path in ("signed", "complete", "self"):
        method = "GET" if path == "self" else "POST"
        answer = httpx2.request(method, service + upload["links"][path], headers=eve)
        assert (answer.status_code, answer.json()["code"]) == (404, "upload_not_found")


def archive(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as made:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                made.write(path, path.relative_to(folder).as_posix())
    return target


def test_a_dataset_and_a_jobs_artifacts_go_through_the_bucket(
    client: Client, house: House, bucket: Bucket, service: str, tmp_path: Path
):
    dataset = client.datasets.push(archive(house.home / "data", tmp_path / "tiny.zip"), "tiny")
    assert DatasetIntake(house.workshop(), look_s=1).take()
    dataset = client.datasets.wait(dataset)
    got = client.datasets.download("tiny", dataset["sha256"], tmp_path / "got.tar")
    assert tarfile.is_tarfile(got)
    job = client.submit({**document(house.home, "train", epochs=1), "data": {"dataset": "dataset:tiny"}})
    assert house.run(job["id"]) is JobState.SUCCEEDED
    with house.database.read() as session:
        rows = artifacts.of_job(session, job["id"])
    assert rows != []
    assert {row.key for row in rows} <= set(bucket.keys("sha256/"))
    for row in rows:
        address = f"{service}/v1/jobs/{job['id']}/artifacts/{row.name}"
        wanted = f"/v1/artifacts/{row.id}/download-url"
        assert hashlib.sha256(httpx2.get(address, headers=HEADERS).content).hexdigest() == row.sha256
        signed = asked(client, wanted, json={})["url"]
        assert hashlib.sha256(httpx2.get(signed).content).hexdigest() == row.sha256, "whoever has the address can"
        assert httpx2.get(signed[:-2]).status_code == 403
    assert len(bucket.server.refused) == len(rows)


def stray_key() -> str:
    digest = hashlib.sha256(STRAY).hexdigest()
    assert digest.startswith("0"), "the collector looks at one sixteenth of the store in a round"
    return f"sha256/{digest[:2]}/{digest}"


def test_the_collector_takes_what_is_unreferenced_after_its_grace_and_nothing_else(
    client: Client, house: House, bucket: Bucket
):
    data = os.urandom(2 * PART)
    _, links = begun(client, data)
    httpx2.put(links[0], content=data[:PART])
    done, ended = begun(client, data[PART:], part_bytes=PART)
    httpx2.put(ended[0], content=data[PART:])
    assert client.uploads.complete(done["id"])["state"] == "complete"
    httpx2.put(ended[0], content=b"after the end")
    bucket.put(stray_key(), STRAY)
    kept = f"sha256/{hashlib.sha256(data[PART:]).hexdigest()[:2]}/{hashlib.sha256(data[PART:]).hexdigest()}"

    patient = Keeper(house.database, lambda: Store(bucket.url), house.with_settings())
    patient.round()
    assert len(bucket.keys("incoming/")) == 2, "within the grace nothing goes"
    keeper = Keeper(house.database, lambda: Store(bucket.url), house.with_settings(keep_unreferenced_s=0.0))
    bucket.put("incoming/upl_of-nobody/1", b"x")
    keeper.round()
    keeper.round()
    assert bucket.keys("incoming/") == [f"incoming/{urlsplit(links[0]).path.partition('/incoming/')[2]}"]
    assert bucket.keys("sha256/") == [kept]
    client.uploads.delete(done["id"])
    keeper.round()
    assert bucket.keys("sha256/") == []


def test_an_upload_that_nobody_goes_on_with_leaves_the_bucket(client: Client, house: House, bucket: Bucket):
    data = os.urandom(2 * PART)
    upload, links = begun(client, data)
    waiting = client.datasets.create("later", upload["id"])
    httpx2.put(links[0], content=data[:PART])
    keeper = Keeper(
        house.database, lambda: Store(bucket.url), house.with_settings(keep_unreferenced_s=0.0, keep_uploads_s=0.0)
    )
    keeper.round()
    assert bucket.keys("incoming/") == []
    with pytest.raises(ClientError, match="never completed"):
        client.datasets.wait(waiting)
    with pytest.raises(ClientError, match="no upload"):
        client.uploads.get(upload["id"])


def test_a_stored_file_whose_sending_breaks_leaves_no_multipart_upload(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = Store(bucket.url)
    (path := tmp_path / "large").write_bytes(os.urandom(40 * PART))
    put = store.put(path)
    assert store.size(put.key) == 40 * PART
    assert (bucket.unfinished(), max(map(len, store.read(put.key))) < 16 * PART) == (0, True)
    store.delete([put.key])
    real = bucket.server._application
    broken = threading.Event()

    def failing(environ: dict[str, Any], start: Any) -> Any:
        if "partNumber=2" in environ["QUERY_STRING"]:
            broken.set()
            start("400 Bad Request", [("Content-Length", "0")])
            return [b""]
        return real(environ, start)

    monkeypatch.setattr(bucket.server, "_application", failing)
    with pytest.raises(Exception, match="store"):
        store.put(path)
    assert broken.is_set()
    assert (bucket.unfinished(), store.size(put.key)) == (0, None)


def test_the_bucket_takes_the_rules_that_the_manual_gives(bucket: Bucket):
    page = Path(__file__).parents[2].joinpath("docs", "object-store.md").read_text()
    lifecycle, cors = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    client, name = bucket.server.client, bucket.name
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=lifecycle)
    client.put_bucket_cors(Bucket=name, CORSConfiguration=cors)
    found = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert [rule["ID"] for rule in found] == ["retort-unfinished", "retort-incoming"]
    assert client.get_bucket_cors(Bucket=name)["CORSRules"][0]["AllowedMethods"] == ["PUT", "GET"]


def test_the_store_belongs_to_one_database_also_in_a_bucket(bucket: Bucket):
    assert [Store(bucket.url).claim(mark) for mark in ("db_a", "db_a", "db_b")] == [True, True, False]
