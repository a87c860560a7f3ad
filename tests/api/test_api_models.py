"""Registered models come from outside too, are listed and shown, and are what specs may name."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.data import weights as data_weights
from retort.data.dataset_summary import DatasetSummary
from retort.db import datasets, uploads
from retort.db.datasets import DatasetFile
from retort.db.session import database_now
from retort.db.uploads import NewPart, NewUpload
from retort.model_ref import title
from retort.settings import Settings
from retort.storage import Store
from support.api_harness import SPEC
from support.checkpoints import checkpoint
from support.malicious_checkpoints import CANARY, corpus, rows

BINARY = {"Content-Type": "application/octet-stream"}


def archive(content: bytes = b"weights") -> bytes:
    """A checkpoint of a network that holds next to nothing."""
    return checkpoint((), note=content.decode())


def shaped(*, names: tuple[str, ...] = ("data.pkl", "data/0"), **how: Any) -> bytes:
    """A file in the shape that torch.save gives it, with nothing of a checkpoint in it."""
    content = b"weights"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **how) as file:
        for name in names:
            file.writestr(zipfile.ZipInfo(f"best/{name}"), content, how.get("compression"))
    return buffer.getvalue()


def push(client: TestClient, name: str = "street-teacher", content: bytes = b"weights") -> Any:
    return client.post("/v1/models", params={"name": name}, content=archive(content), headers=BINARY)


def reference(name: str, content: bytes = b"weights") -> str:
    return f"model:{name}@sha256:{hashlib.sha256(archive(content)).hexdigest()}"


def test_a_pushed_model_is_registered_and_its_bytes_are_in_the_store(client: TestClient, settings: Settings):
    answer = push(client)

    model = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/v1/models/street-teacher" == model["links"]["self"]
    assert model["reference"] == reference("street-teacher")
    assert model["size_bytes"] == len(archive())
    assert {model[field] for field in ("role", "architecture", "classes", "metrics", "job_id")} == {None}
    sha256 = model["sha256"]
    assert b"".join(Store(settings.store_url).read(f"sha256/{sha256[:2]}/{sha256}")) == archive()


def test_pushing_the_same_file_again_is_harmless(client: TestClient):
    first, again = push(client), push(client)

    assert (again.status_code, again.json()) == (200, first.json())
    assert len(client.get("/v1/models").json()["data"]) == 1


def test_models_are_listed_newest_first_page_after_page_and_shown_by_name(client: TestClient):
    for number in range(3):
        push(client, content=str(number).encode())
    push(client, "other")

    page = client.get("/v1/models", params={"limit": 3}).json()
    rest = client.get("/v1/models", params={"limit": 3, "cursor": page["next_cursor"]}).json()
    named = client.get("/v1/models/street-teacher").json()["data"]

    assert [model["name"] for model in page["data"]] == ["other"] + ["street-teacher"] * 2
    assert (page["has_more"], rest["has_more"], len(rest["data"])) == (True, False, 1)
    assert [model["reference"] for model in named] == [reference("street-teacher", n) for n in (b"2", b"1", b"0")]


def test_a_model_is_downloaded_whole_or_in_part_and_verifiable(client: TestClient):
    link = push(client).json()["links"]["file"]

    whole, head, rest = client.get(link), client.head(link), client.get(link, headers={"Range": "bytes=10-"})
    again = client.get(link, headers={"If-None-Match": whole.headers["ETag"]})

    assert (whole.status_code, whole.content) == (200, archive())
    assert whole.headers["ETag"] == f'"sha256-{link.rpartition("/")[2]}"' == head.headers["ETag"]
    assert whole.headers["Content-Disposition"] == 'attachment; filename="street-teacher.pt"'
    assert (rest.status_code, rest.content, again.status_code) == (206, archive()[10:], 304)


def test_a_digest_that_the_name_does_not_have_is_not_found(client: TestClient):
    push(client)

    for digest in ("0" * 64, "latest"):
        refused = client.get(f"/v1/models/street-teacher/{digest}")
        assert (refused.status_code, refused.json()["code"]) == (404, "model_not_found")


def test_a_name_that_stands_for_nothing_is_not_found(client: TestClient):
    for name in ("nobody", "no body"):
        refused = client.get(f"/v1/models/{name}")
        assert (refused.status_code, refused.json()["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "does not begin as an archive"),
        (b"\x80\x02}q\x00.", "a pickle without an archive"),
        (archive()[:-30], "it is cut off"),
        (shaped(names=("notes.txt",)), "one folder with a data.pkl"),
        (shaped(names=("data.pkl", "code/__torch__.py")), "TorchScript"),
        (shaped(names=("data.pkl", "../../x")), "which no checkpoint has"),
        (shaped(compression=zipfile.ZIP_DEFLATED), "compressed"),
    ],
    ids=["empty", "pickle", "cut", "zip", "torchscript", "escaping", "compressed"],
)
def test_what_is_no_checkpoint_by_its_shape_is_refused_and_not_kept(
    small_client: TestClient, small_settings: Settings, body: bytes, said: str
):
    refused = small_client.post("/v1/models", params={"name": "x"}, content=body, headers=BINARY)

    assert (refused.status_code, refused.json()["code"]) == (422, "bad_model")
    assert said in refused.json()["detail"]
    assert refused.json()["hint"]
    assert small_client.get("/v1/models").json()["data"] == []
    assert not list((small_settings.home / "artifacts").rglob("*/*/*"))


def test_no_malicious_file_is_registered_and_each_is_told_what_was_found(
    small_client: TestClient, small_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for trick, body in list(corpus().items())[::6]:
        refused = small_client.post("/v1/models", params={"name": "x"}, content=body, headers=BINARY)
        assert (refused.status_code, refused.json()["code"]) == (422, "bad_model"), trick
        assert refused.json()["detail"], trick
        assert refused.json()["hint"], trick
    assert not (tmp_path / CANARY).exists()
    assert not list((small_settings.home / "artifacts").rglob("*/*/*"))


def test_a_file_that_is_announced_as_too_large_is_refused_before_it_is_sent(small_client: TestClient):
    headers = {**BINARY, "Content-Length": str(2 << 30)}

    refused = small_client.post("/v1/models", params={"name": "x"}, content=b"begin", headers=headers)

    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


def test_a_file_that_grows_too_large_on_its_way_is_refused_and_not_kept(
    small_client: TestClient, small_settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(data_weights, "LARGEST_BYTES", 1000)
    pieces = (archive(bytes(300)) for _ in range(3))  # without a length, in chunks

    refused = small_client.post("/v1/models", params={"name": "x"}, content=pieces, headers=BINARY)

    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert not list((small_settings.home / "artifacts").rglob("*/*/*"))


def test_other_types_and_names_are_refused(small_client: TestClient):
    typed = small_client.post("/v1/models", params={"name": "x"}, json={})
    named = small_client.post("/v1/models", params={"name": "a b"}, content=archive(), headers=BINARY)

    assert (typed.status_code, typed.json()["code"]) == (415, "unsupported_media_type")
    assert (named.status_code, named.json()["code"]) == (422, "bad_parameter")


def submit(client: TestClient, weights: str) -> Any:
    return client.post("/v1/jobs", json={**SPEC, "teacher": {"weights": weights}})


def test_a_job_may_name_a_registered_model_by_its_digest(client: TestClient):
    push(client)

    answer = submit(client, reference("street-teacher"))

    assert answer.status_code == 202
    assert answer.json()["spec"]["teacher"]["weights"] == reference("street-teacher")


def test_an_unknown_digest_is_refused_with_those_that_the_name_has(client: TestClient):
    push(client)

    refused = submit(client, reference("street-teacher", b"other"))

    (mistake,) = refused.json()["errors"]
    assert (refused.status_code, refused.json()["code"], mistake["path"]) == (422, "bad_spec", "teacher.weights")
    assert reference("street-teacher", b"other").partition("@")[2] in mistake["detail"]
    assert reference("street-teacher").partition("@")[2] in mistake["hint"]
    assert client.get("/v1/jobs").json()["data"] == []


def test_a_name_without_a_digest_is_refused_with_the_newest(client: TestClient):
    for content in (b"old", b"new"):
        push(client, content=content)

    known, unknown = submit(client, "model:street-teacher"), submit(client, "model:nobody")

    assert (known.status_code, unknown.status_code) == (422, 422)
    assert known.json()["hint"] == f"the newest is {reference('street-teacher', b'new')}"
    assert "model:nobody@sha256:DIGEST" in unknown.json()["hint"]


def short(name: str, content: bytes = b"weights") -> str:
    """As tables print it."""
    return title(reference(name, content))


def test_a_job_a_clone_advice_and_a_sweep_may_name_a_model_by_the_short_digest_that_tables_print(
    client: TestClient, job_id: str
):
    push(client)
    given, whole = short("street-teacher"), reference("street-teacher")
    sweep = {
        "base": SPEC, "search": {"strategy": "grid"}, "parameters": {"teacher.weights": {"values": [given, "b.pt"]}},
    }  # fmt: skip

    job = submit(client, given)
    clone = client.post(f"/v1/jobs/{job_id}/clone", json={"teacher": {"weights": given}})
    advice = client.post("/v1/advise", json={"data": SPEC["data"], "candidates": [given]})
    swept = client.post("/v1/sweeps", json={"name": "s", **sweep})

    assert [answer.status_code for answer in (job, clone, advice, swept)] == [202] * 4
    assert job.json()["spec"]["teacher"]["weights"] == whole == clone.json()["spec"]["teacher"]["weights"]
    assert advice.json()["spec"]["candidates"] == [whole]
    assert whole in swept.text
    assert given not in swept.text


def test_a_short_digest_that_no_model_has_is_refused_with_those_that_the_name_has(client: TestClient):
    push(client)

    refused = submit(client, "street-teacher@0123456789ab")

    (mistake,) = refused.json()["errors"]
    assert (refused.status_code, mistake["path"]) == (422, "teacher.weights")
    assert reference("street-teacher").partition("@")[2] in mistake["hint"]


def test_a_model_is_downloaded_by_its_short_digest(client: TestClient):
    sha256 = push(client).json()["sha256"]

    assert client.get(f"/v1/models/street-teacher/{sha256[:8]}").content == archive()
    assert client.get(f"/v1/models/street-teacher/{sha256[:7]}").status_code == 404


@pytest.fixture
def coloured(small_settings: Settings) -> dict[str, str]:
    """Data of two classes, where this service can see it."""
    folder = small_settings.data_dirs[0] / "coloured"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text("train: t\nval: v\nnames: [red, blue]\n")
    return {"path": str(folder)}


def pushed(client: TestClient, names: list[str]) -> Any:
    about = {"params": {"name": "street-teacher"}, "content": checkpoint(names), "headers": BINARY}
    return client.post("/v1/models", **about).json()  # type: ignore[arg-type]


def test_a_registered_teacher_that_knows_none_of_the_classes_is_refused_before_anything_is_queued(
    small_client: TestClient, coloured: dict[str, str]
):
    model = pushed(small_client, ["Red", "Blue"])
    spec = {**SPEC, "data": coloured, "teacher": {"weights": model["reference"]}}

    job = small_client.post("/v1/jobs", json=spec)
    sweep = {
        "name": "s",
        "base": spec,
        "search": {"strategy": "grid"},
        "parameters": {"training.seed": {"values": [1]}},
    }

    assert model["classes"] == ["Red", "Blue"]
    assert job.status_code == 422
    (mistake,) = job.json()["errors"]
    assert mistake["path"] == "teacher.weights"
    assert "knows none of the data's classes" in mistake["detail"]
    assert "write 'Red' in data.yaml" in mistake["hint"]
    assert small_client.post("/v1/sweeps", json=sweep).status_code == 422
    assert small_client.get("/v1/jobs").json()["data"] == []


def test_classes_that_a_registered_teacher_lacks_are_the_jobs_first_events(
    small_client: TestClient, coloured: dict[str, str]
):
    model = pushed(small_client, ["red", "Blue"])
    spec = {**SPEC, "data": coloured, "teacher": {"weights": model["reference"]}}

    job = small_client.post("/v1/jobs", json=spec).json()
    clone = small_client.post(f"/v1/jobs/{job['id']}/clone", json={}).json()

    for one in (job, clone):
        events = small_client.get(f"/v1/jobs/{one['id']}/events").json()["data"]
        assert [(event["seq"], event["type"], event["level"]) for event in events[:2]] == [
            (1, "state", None), (2, "log", "warning"),
        ]  # fmt: skip
        assert "does not know 1 of the data's 2 classes: 'blue'" in events[1]["message"]
        assert "'blue' of the data is 'Blue' there" in events[1]["message"]


def test_a_clone_may_name_only_what_is_registered(client: TestClient, job_id: str):
    push(client)

    def clone(weights: str) -> Any:
        return client.post(f"/v1/jobs/{job_id}/clone", json={"teacher": {"weights": weights}})

    assert clone(reference("street-teacher")).status_code == 202
    assert clone(reference("nobody")).json()["code"] == "bad_spec"


def test_temporary_files_of_uploads_do_not_stay(
    small_client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    push(small_client)
    small_client.post("/v1/models", params={"name": "x"}, content=b"no", headers=BINARY)

    assert list((tmp_path / "tmp").iterdir()) == []


def test_safetensors_are_registered_with_the_network_that_the_request_names(client: TestClient):
    content = rows({"0.conv.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))
    alone = client.post("/v1/models", params={"name": "mine"}, content=content, headers=BINARY)
    assert (alone.status_code, alone.json()["code"]) == (422, "bad_model")
    assert "which network" in alone.json()["detail"]

    told = {"name": "mine", "architecture": "yolo11n", "class_name": ["car", "person"]}
    answer, again = (client.post("/v1/models", params=told, content=content, headers=BINARY) for _ in range(2))

    assert (answer.status_code, again.status_code) == (201, 200)
    assert answer.json()["classes"] == ["car", "person"]
    wrong = client.post("/v1/models", params={**told, "architecture": "os.system"}, content=content, headers=BINARY)
    assert wrong.json()["code"] == "bad_model"


def registered(client: TestClient, names: list[str]) -> str:
    """Register a dataset with these classes, as a worker does; return its reference."""
    with client.app.state.service.database.begin() as session:  # type: ignore[attr-defined]
        now = database_now(session)
        new = NewUpload(project="default", owner="operator", size_bytes=1, num_parts=1)
        upload = uploads.create(session, new, [NewPart("a" * 64, 1, "sha256/aa/" + "a" * 64)], now=now)
        uploads.complete(session, upload.id, "c" * 64, now=now)
        session.refresh(upload)
        datasets.create(session, project="default", owner="operator", name="street", upload=upload, now=now)
        claimed = datasets.claim(session, worker="w", now=now, lease_s=60)
        assert claimed is not None
        kept = DatasetFile("sha256/dd/" + "d" * 64, "d" * 64, 50)
        assert datasets.finish(session, claimed, DatasetSummary(names=names).model_dump(), kept, [], now=now)
    return f"dataset:street@sha256:{'d' * 64}"


def test_the_classes_of_a_registered_teacher_are_compared_with_those_of_a_registered_dataset(small_client: TestClient):
    model, reference = pushed(small_client, ["car", "bus"]), registered(small_client, ["red", "blue"])
    spec = {**SPEC, "data": {"dataset": reference}, "teacher": {"weights": model["reference"]}}
    for address in ("/v1/validate", "/v1/jobs?dry_run=true", "/v1/jobs"):
        refused = small_client.post(address, json=spec)
        assert refused.status_code == 422, address
        (mistake,) = refused.json()["errors"]
        assert mistake["path"] == "teacher.weights"
        assert mistake["hint"] == "it knows 'car', 'bus', the data has 'red', 'blue'"
    assert small_client.get("/v1/jobs").json()["data"] == []
    other = pushed(small_client, ["red", "bus"])
    warned = small_client.post("/v1/validate", json={**spec, "teacher": {"weights": other["reference"]}}).json()
    assert any("does not know 1 of the data's 2 classes: 'blue'" in one for one in warned["warnings"])
