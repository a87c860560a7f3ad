"""A dataset from another host is checked by a worker, named by digest in a spec, and fetched for the job."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from retort import dataset_ref
from retort.client import Client
from retort.client.transport import ClientError
from retort.data.registered_datasets import folder_of
from retort.db import datasets
from retort.db.session import database_now
from retort.keeping import Keeper
from retort.states import JobState
from retort_worker.dataset_intake import DatasetIntake
from support.identity import HEADERS
from support.worker_harness import House, document


@pytest.fixture
def house(served_house: House) -> House:
    return served_house


def zipped(folder: Path, target: Path, around: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, around + path.relative_to(folder).as_posix())
    return target


def brought(client: Client, house: House, path: Path, name: str = "tiny") -> dict[str, Any]:
    """Push, and let a worker look through it."""
    dataset = client.datasets.push(path, name)
    assert dataset["state"] == "checking"
    assert DatasetIntake(house.workshop(), look_s=1).take()
    return client.datasets.version(name, dataset["id"])


def test_a_zip_from_another_host_becomes_a_dataset_that_a_job_trains_on(
    service: str, client: Client, house: House, tmp_path: Path
):
    dataset = brought(client, house, zipped(house.home / "data", tmp_path / "tiny.zip", around="tiny/"))

    assert (dataset["state"], dataset["classes"], dataset["findings"] and None) == ("ready", ["thing"], None)
    assert {split: counts["num_images"] for split, counts in dataset["splits"].items()} == {"train": 1, "val": 1}
    (address,) = dataset["links"]["previews"]
    answer = httpx2.get(service + address, headers=HEADERS)
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert Image.open(io.BytesIO(answer.content)).format == "JPEG", "the image was a PNG"
    job = client.submit({**document(house.home, "show-inputs", epochs=1), "data": {"dataset": "dataset:tiny"}})
    reference = dataset_ref.parse(job["spec"]["data"]["dataset"])
    assert str(reference) == dataset["reference"], "the newest is fixed in the stored spec"
    assert house.run(job["id"]) is JobState.SUCCEEDED
    assert reference is not None
    assert house.settings.dataset_dir is not None
    assert sorted(path.name for path in folder_of(reference.sha256, house.settings.dataset_dir).iterdir()) == [
        "data.yaml", "images", "labels",
    ]  # fmt: skip


def test_a_folder_is_the_same_dataset_however_it_comes(client: Client, house: House, tmp_path: Path):
    folder = house.home / "data"
    (folder / "train.cache").write_bytes(b"not sent")
    first = brought(client, house, folder)
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
        archive.add(folder, "somewhere/else")
    second = brought(client, house, tmp_path / "t.tar.gz")

    assert first["state"] == second["state"] == "ready"
    assert first["sha256"] == second["sha256"]
    assert [one["id"] for one in client.datasets.versions("tiny")] == [second["id"]], "one version stands for both"


def test_images_of_no_split_and_files_of_other_kinds_are_told_when_they_are_not_kept(
    client: Client, house: House, tmp_path: Path
):
    folder = house.home / "data"
    (folder / "unlabelled").mkdir()
    for number in range(10):
        Image.new("RGB", (32, 32), (number, 9, 9)).save(folder / f"unlabelled/{number}.jpg")
    (folder / "film.mp4").write_bytes(b"film")
    for source in (folder, zipped(folder, tmp_path / "tiny.zip")):
        dataset = brought(client, house, source)
        (told,) = [one for one in dataset["findings"] if one["code"] == "image_without_split"]
        assert (dataset["state"], told["severity"], told["number"], len(told["places"])) == ("ready", "warning", 10, 5)
        assert "data.unlabelled.path" in told["hint"]
    assert "1 file of the archive, of kinds that are not read: 1 .mp4" in dataset["notes"]


def test_what_cannot_be_used_is_refused_with_file_and_line_and_no_path_of_the_worker(client: Client, house: House):
    (house.home / "data" / "labels" / "train" / "one.txt").write_text("7 0.5 0.5 0.2 0.2\n")
    dataset = brought(client, house, house.home / "data", "broken")

    assert (dataset["state"], dataset["reference"]) == ("refused", None)
    told = str(dataset["findings"])
    assert "labels/train/one.txt:1" in told
    assert str(house.home) not in told
    with pytest.raises(ClientError, match=r"one\.txt"):
        client.datasets.wait(dataset)


def test_a_dataset_in_the_trash_is_restored_and_one_that_stays_there_goes_with_its_bytes(client: Client, house: House):
    dataset = brought(client, house, house.home / "data")
    client.datasets.delete("tiny", dataset["id"])
    with pytest.raises(ClientError, match="no dataset"):
        client.datasets.versions("tiny")
    again = client.datasets.restore("tiny", dataset["id"])
    assert (again["state"], again["reference"]) == ("ready", dataset["reference"])
    assert [one["id"] for one in client.datasets.versions("tiny")] == [dataset["id"]]

    client.datasets.delete("tiny", dataset["id"])
    store = house.workshop().store
    key = f"sha256/{dataset['sha256'][:2]}/{dataset['sha256']}"
    soon: dict[str, Any] = {"keep_trash_s": 0.0, "keep_unreferenced_s": 0.0}
    Keeper(house.database, lambda: store, house.with_settings(keep_unreferenced_s=3600.0)).round()
    assert store.size(key) is not None, "it can be restored for a week"
    for _ in range(2):
        Keeper(house.database, lambda: store, house.with_settings(**soon)).round()
    assert store.size(key) is None
    with pytest.raises(ClientError, match="no such version"):
        client.datasets.restore("tiny", dataset["id"])


def test_an_upload_that_nobody_goes_on_with_expires_and_its_dataset_says_so(client: Client, house: House):
    body = {"size_bytes": 100_000, "part_bytes": 1 << 16}
    upload = httpx2.post(f"{client.url}/v1/uploads", headers=HEADERS, json=body).json()
    waiting = client.datasets.create("later", upload["id"])
    Keeper(house.database, lambda: house.workshop().store, house.with_settings()).round()
    assert client.uploads.get(upload["id"])["state"] == "open"
    Keeper(house.database, lambda: house.workshop().store, house.with_settings(keep_uploads_s=0.0)).round()
    with pytest.raises(ClientError, match="no upload"):
        client.uploads.get(upload["id"])
    with pytest.raises(ClientError, match="never completed"):
        client.datasets.wait(waiting)


def test_what_a_killed_worker_was_looking_through_is_taken_over_and_its_late_result_counts_for_nothing(
    client: Client, house: House
):
    dataset = client.datasets.push(house.home / "data", "tiny")
    lease_s = house.settings.lease_s
    with house.database.begin() as session:
        long_ago = database_now(session) - 2 * lease_s
        lost = datasets.claim(session, worker="killed", now=long_ago, lease_s=lease_s)
        datasets.reap(session, now=long_ago + 2 * lease_s)
    assert lost is not None
    assert DatasetIntake(house.workshop(), look_s=1).take()
    assert client.datasets.wait(dataset)["state"] == "ready"
    with house.database.begin() as session:
        assert not datasets.refuse(session, lost, {}, now=database_now(session))
        assert not datasets.renew(session, lost, now=database_now(session), lease_s=lease_s)
    assert client.datasets.version("tiny", dataset["id"])["state"] == "ready"


def test_a_dataset_over_which_three_workers_were_lost_is_refused(client: Client, house: House):
    dataset = client.datasets.push(house.home / "data", "tiny")
    for number in range(4):
        with house.database.begin() as session:
            now = database_now(session) + number * 100.0
            datasets.reap(session, now=now)
            claimed = datasets.claim(session, worker=f"killed-{number}", now=now, lease_s=60.0)
        assert (claimed is None) == (number == 3)
    with pytest.raises(ClientError, match="3 workers were lost"):
        client.datasets.wait(dataset)
