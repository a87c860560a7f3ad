"""What a submission may get wrong, and what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.settings import Settings
from support.api_harness import SPEC, serving

YAML = {"Content-Type": "application/yaml"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        (JSON, b"{not json", 400, "unreadable_body"),
        (JSON, b"name: yaml, though announced as JSON", 400, "unreadable_body"),
        (JSON, b"", 400, "unreadable_body"),
        (JSON, b"\xff\xfe\xfd", 400, "unreadable_body"),
        (JSON, b'{"name": 1, "name": 2}', 400, "unreadable_body"),
        (JSON, b"[" * 50_000, 400, "unreadable_body"),
        (JSON, b"1" * 10_000, 400, "unreadable_body"),
        (YAML, b"a: [", 400, "unreadable_body"),
        (YAML, b"[" * 5_000, 400, "unreadable_body"),
        (YAML, b"a: &a [x]\nb: *a", 400, "unreadable_body"),
        (YAML, b"a: !!python/object/apply:os.system [true]", 400, "unreadable_body"),
        (YAML, b"\x00", 400, "unreadable_body"),
        (JSON, b'{"name": "' + b"x" * 70_000 + b'"}', 413, "body_too_large"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"{}", 415, "unsupported_media_type"),
        ({}, b"{}", 415, "unsupported_media_type"),
        (JSON, b"[]", 422, "bad_spec"),
        (YAML, b"", 422, "bad_spec"),
    ],
)
def test_a_body_that_is_no_document_is_refused(
    small_client: TestClient, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    answer = small_client.post("/v1/jobs", content=content, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_body_without_a_length_is_measured_while_it_comes(small_client: TestClient) -> None:
    answer = small_client.post("/v1/jobs", content=(b"x" * 1000 for _ in range(100)), headers=JSON)

    assert answer.json()["code"] == "body_too_large"


@pytest.mark.parametrize(
    ("change", "path", "hint"),
    [
        ({"teachr": 1}, "teachr", "teacher"),
        ({"training": {"epohs": 3}}, "training.epohs", "epochs"),
        ({"distillation": {"losses": [{"kind": "pearsn"}]}}, "distillation.losses.0", "pearson"),
        ({"student": {"model": "yolov8q"}}, "student.model", "yolov8"),
        ({"data": {"path": "\ud800"}}, "data.path", ""),
        ({"data": {"dataset": "coco129"}}, "data.dataset", "did you mean 'coco128'?"),
        ({"data": {"dataset": "../etc"}}, "data.dataset", "coco128"),
        ({"data": {"dataset": "coco128", "path": "/data"}}, "data.dataset", "path: a folder"),
        ({"data": {"dataset": None}}, "data.path", "dataset: a registered one"),
        ({"tracking": {"wandb": {"project": "a/b"}}}, "tracking.wandb.project", ""),
        ({"tracking": {"mlflow": {}}}, "tracking.mlflow.experiment", ""),
        ({"\ud800": 1}, "", ""),
    ],
)
def test_a_mistake_in_the_spec_says_where_and_what_would_be_right(
    small_client: TestClient, change: dict[str, Any], path: str, hint: str
) -> None:
    written = json.dumps({**SPEC, **change})  # escapes what has no UTF-8

    answer = small_client.post("/v1/jobs", content=written, headers=JSON)

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (422, "bad_spec", False)
    mistake = problem["errors"][0]
    assert mistake["path"].startswith(path)
    assert hint in (mistake["hint"] or "")
    assert mistake["detail"]


def test_a_known_data_set_is_accepted_by_its_name_whether_it_is_here_or_not(small_client: TestClient) -> None:
    answer = small_client.post("/v1/jobs", json={**SPEC, "data": {"dataset": "VisDrone"}})

    assert answer.status_code == 202
    assert answer.json()["spec"]["data"] == {
        "path": None,
        "dataset": "VisDrone",
        "max_missing_labels": 0.5,
        "unlabelled": None,
    }


def test_every_mistake_is_told_at_once(small_client: TestClient) -> None:
    answer = small_client.post("/v1/jobs", json={"name": "a b", "data": {}, "teacher": {"weights": "x.pt"}, "extra": 1})

    assert {mistake["path"] for mistake in answer.json()["errors"]} == {"name", "data.path", "extra"}


def test_data_outside_the_operators_folders_is_refused(tmp_path: Path, small_settings: Settings) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "way_out").symlink_to("/")
    settings = small_settings.model_copy(update={"data_dirs": (tmp_path / "allowed",)})

    def submit(path: str) -> Any:
        return client.post("/v1/jobs", json={**SPEC, "data": {"path": path}})

    with serving(settings) as client:
        for inside in (f"{tmp_path}/allowed/digits", f"{tmp_path}/allowed", "digits", "a/../digits"):
            assert submit(inside).status_code == 202, inside
        for outside in (
            "/etc", f"{tmp_path}/allowed/../other", f"{tmp_path}/allowed/way_out/etc", f"{tmp_path}/allowed2",
            "../digits", "way_out/etc", "", "/data/\x00", "/" + "x" * 300,
        ):  # fmt: skip
            answer = submit(outside)
            assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "data.path"), outside


def test_other_folders_of_images_must_lie_there_too_and_every_mistake_is_told(
    tmp_path: Path, small_settings: Settings
) -> None:
    (tmp_path / "allowed").mkdir()
    settings = small_settings.model_copy(update={"data_dirs": (tmp_path / "allowed",)})
    data = {"path": "digits", "unlabelled": {"path": "/etc"}}
    with serving(settings) as client:
        refused = client.post("/v1/jobs", json={**SPEC, "data": data, "pseudo_labels": {"path": "/more"}})
        taken = client.post("/v1/jobs", json={**SPEC, "data": {"path": "digits"}, "pseudo_labels": {"path": "more"}})
    assert refused.status_code == 422
    assert [mistake["path"] for mistake in refused.json()["errors"]] == ["data.unlabelled.path", "pseudo_labels.path"]
    assert taken.status_code == 202
