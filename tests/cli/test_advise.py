"""``retort advise`` and ``retort models``, against a service and without one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.commands import SPEC, Retort
from retort.data.weights import registered_path, resolve_registered
from retort.model_ref import parse
from support.malicious_checkpoints import rows
from support.scripted_run import archive
from support.worker_harness import write_dataset

DIGEST = "0" * 64


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    path.write_bytes(archive(tmp_path.name.encode()))
    return path


@pytest.fixture
def data(ready: dict[str, Any], tmp_path: Path) -> Path:
    """A data set, and a service that has the weights that the tests name."""
    models = Path(ready["home"]) / "models"
    models.mkdir(exist_ok=True)
    for name in ("yolov8n.pt", "good.pt", "weak.pt"):
        (models / name).write_bytes(archive(name.encode()))
    write_dataset(tmp_path)
    return tmp_path / "data"


def test_advice_of_a_service_is_a_table_with_reasons_and_whom_to_take(retort: Retort, service: str, data: Path):
    told = retort("advise", "--data", data, "--candidate", "weak.pt", "--candidate", "good.pt", "--url", service)

    assert told.code == 0, told.err
    assert "weak is refused" in told.out
    assert "good is recommended" in told.out
    assert "Take good." in told.out
    assert "No control was trained" not in told.out
    shown = retort("get", told.err.split()[0], "--url", service)
    assert "Take good." in shown.out


def test_where_none_is_to_be_recommended_the_exit_code_is_one(retort: Retort, service: str, data: Path):
    told = retort("advise", "--data", data, "--candidate", "weak.pt", "--url", service, "--json")

    assert told.code == 1
    assert told.json["result"]["recommended"] is None
    assert told.json["spec"]["student"] == {"model": "yolov8n", "weights": "yolov8n.pt"}


def test_advice_is_asked_from_a_jobs_spec(retort: Retort, service: str, tmp_path: Path):
    document = yaml.safe_load(SPEC.read_text()) | {"name": "advice", "teacher": {"weights": "good.pt"}}
    document["data"] = {"path": str(tmp_path)}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(document))

    told = retort("advise", "--spec", tmp_path / "job.yaml", "--candidate", "better.pt", "--url", service, "--json")

    spec = told.json["spec"]
    assert (spec["task"], spec["name"], spec["candidates"]) == ("advise", "advice", ["good.pt", "better.pt"])
    assert spec["data"] == {"path": str(tmp_path), "dataset": None, "max_missing_labels": 0.5}
    assert spec["batch"] == document["training"]["batch"]
    assert spec["student"]["model"] == document["student"]["model"]


def test_a_request_in_a_file_is_read_with_its_fields_replaced(retort: Retort, service: str, tmp_path: Path):
    request = {"task": "advise", "data": {"path": "set"}, "candidates": ["good.pt"]}
    (tmp_path / "ask.yaml").write_text(yaml.safe_dump(request))
    (tmp_path / "set").mkdir()

    told = retort("advise", tmp_path / "ask.yaml", "--set", "imgsz=320", "--url", service, "--json")

    assert (told.json["spec"]["imgsz"], told.json["spec"]["data"]["path"]) == (320, str(tmp_path / "set"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "data: is required"),
        (("--data", "x"), "candidates: is required"),
        (("--data", "x", "--candidate", "model:mine"), "names the model 'mine' without a digest"),
        ((SPEC, "--spec", SPEC), "two specs are given"),
        ((SPEC, "--set", "imgsz=100", "--candidate", "a.pt"), "imgsz"),
    ],
    ids=["nothing", "candidates", "bare", "two", "set"],
)
def test_a_request_that_cannot_be_measured_is_refused_before_anything_is_done(
    retort: Retort, arguments: tuple[object, ...], said: str
):
    told = retort("advise", *arguments)

    assert told.code == 4
    assert said in told.err


def test_without_a_service_an_unknown_digest_is_told(retort: Retort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    retort("data", "demo", tmp_path / "digits", "--train", 2, "--val", 1, "--imgsz", 64)
    named = f"model:first-job-teacher@sha256:{DIGEST}"

    told = retort(
        "advise", "--data", tmp_path / "digits", "--candidate", named, "--set", "student.weights=null", "--json"
    )

    assert (told.code, told.error["code"]) == (4, "bad_model")
    assert "nothing is registered there" in told.error["hint"]


def test_a_pushed_model_is_printed_as_its_reference_and_listed(served: Retort, weights: Path):
    reference = f"model:mine@sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}"

    pushed, again = (
        served("models", "push", weights, "--name", "mine"),
        served("models", "push", weights, "--name", "mine"),
    )

    assert (pushed.code, pushed.out.strip()) == (0, reference), pushed.err
    assert again.out == pushed.out
    assert reference in served("models").out
    assert reference in served("models", "show", "mine").out
    assert served("models", "show", "mine", "--json").json[0]["reference"] == reference
    assert served("models", "--json", "--limit", 1).json[0]["name"] == "mine"


def test_a_job_may_name_what_was_pushed_and_nothing_else(served: Retort, weights: Path):
    reference = served("models", "push", weights, "--name", "mine").out.strip()

    taken = served("submit", SPEC, "--set", f"teacher={{weights: '{reference}'}}")
    refused = served("submit", SPEC, "--set", f"teacher={{weights: 'model:mine@sha256:{DIGEST}'}}", "--json")

    assert taken.code == 0, taken.err
    assert (refused.code, refused.error["code"]) == (4, "bad_spec")
    assert reference.partition("@")[2] in refused.error["hint"]


def test_a_pulled_model_lies_where_local_runs_look_for_it(
    served: Retort, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    reference = parse(served("models", "push", weights, "--name", "mine").out.strip())
    assert reference is not None

    for _ in range(2):
        pulled = served("models", "pull", reference)
        assert pulled.code == 0, pulled.err
    told = served("models", "pull", f"model:mine@sha256:{DIGEST}", "--json")

    assert resolve_registered(reference, tmp_path / "home" / "models").read_bytes() == weights.read_bytes()
    assert pulled.out.strip() == str(registered_path(reference, tmp_path / "home" / "models"))
    assert (told.code, told.error["code"]) == (4, "model_not_found")
    assert served("models", "pull", "mine").code == 4


def test_safetensors_are_pushed_with_the_network_and_the_classes_that_are_told(served: Retort, tmp_path: Path):
    tensors = tmp_path / "mine.safetensors"
    tensors.write_bytes(rows({"0.conv.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)))
    refused = served("models", "push", tensors, "--name", "rows", "--json")
    assert (refused.code, refused.error["code"]) == (4, "bad_model")
    (tmp_path / "own.yaml").write_text("backbone: [[-1, 1, Conv, [16]]]\nhead: [[[0], 1, Detect, [nc]]]\n")
    for network in ("yolo11n", str(tmp_path / "own.yaml")):
        told = ("--architecture", network, "--names", "car, person", "--json")
        assert served("models", "push", tensors, "--name", "rows", *told).json["classes"] == ["car", "person"]


def test_what_is_no_checkpoint_does_not_travel(served: Retort, tmp_path: Path):
    (tmp_path / "notes.pt").write_text("notes")

    no_checkpoint = served("models", "push", tmp_path / "notes.pt", "--name", "mine", "--json")
    nothing = served("models", "push", tmp_path / "nowhere.pt", "--name", "mine")
    unknown = served("models", "show", "nobody", "--json")

    assert (no_checkpoint.code, no_checkpoint.error["code"]) == (4, "bad_model")
    assert (nothing.code, unknown.error["code"]) == (4, "model_not_found")
