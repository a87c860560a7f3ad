"""Models are registered once for each name and digest, with the end of their job."""

from __future__ import annotations

from dataclasses import replace

import pytest
from results import RESULT
from retort.db import model_registry, transitions
from retort.db.artifacts import NewArtifact
from retort.db.model_registry import NewModel
from retort.model_ref import ModelRef
from support.db_harness import T0, Shop, at_once

MODEL = NewModel(name="street-teacher", sha256="a" * 64, size_bytes=10, key="sha256/aa/" + "a" * 64)
TEACHER = NewArtifact(
    "teacher.pt", "teacher", "b" * 64, 11, "application/octet-stream", "sha256/bb/" + "b" * 64,
    {
        "epoch": 3, "model": "yolo11s", "imgsz": 640, "data": {"names": ["car", "bus"], "digest": "d" * 64},
        "metrics": {"val/mAP50": 0.5, "val/mAP50-95": 0.25, "val/box_loss": 1.0},
    },
)  # fmt: skip


def register(shop: Shop, model: NewModel = MODEL, now: float = T0) -> bool:
    with shop.database.begin() as session:
        return model_registry.register(session, model, now=now)


def test_registering_the_same_bytes_by_the_same_name_again_changes_nothing(shop: Shop):
    assert register(shop)
    before = shop.rows()
    assert not register(shop, replace(MODEL, architecture="yolo11s"), now=T0 + 9)
    assert shop.rows() == before


def test_many_who_register_the_same_at_once_make_one_row(shop: Shop):
    assert sorted(at_once(lambda _: str(register(shop)), 6)) == ["False"] * 5 + ["True"]
    assert len(shop.rows("models")["models"]) == 1


def test_one_name_stands_for_many_models_newest_first_and_one_file_may_have_many_names(shop: Shop):
    register(shop)
    register(shop, replace(MODEL, sha256="c" * 64), now=T0 + 1)
    register(shop, replace(MODEL, name="other"), now=T0 + 2)
    with shop.database.read() as session:
        assert [row.sha256[0] for row in model_registry.named(session, "street-teacher")] == ["c", "a"]
        assert [(row.name, row.sha256[0]) for row in model_registry.page(session)] == [
            ("other", "a"), ("street-teacher", "c"), ("street-teacher", "a"),
        ]  # fmt: skip
        newest, *_ = model_registry.page(session, limit=1)
        assert [row.name for row in model_registry.page(session, after=newest.id)] == ["street-teacher"] * 2
        assert model_registry.find(session, ModelRef("other", "a" * 64)) is newest
        assert model_registry.find(session, ModelRef("other", "c" * 64)) is None
        with pytest.raises(model_registry.ModelNotFound):
            model_registry.named(session, "nobody")


def test_what_a_job_has_trained_is_registered_under_the_jobs_name_with_what_the_job_knows(shop: Shop):
    lease = shop.running()
    with shop.database.begin() as session:
        assert model_registry.register_trained(session, lease, TEACHER, now=T0 + 5)
        assert not model_registry.register_trained(session, lease, replace(TEACHER, name="teacher.onnx"), now=T0 + 6)
        assert not model_registry.register_trained(session, lease, replace(TEACHER, role="control"), now=T0 + 6)
    (row,) = shop.rows("models")["models"]
    assert (row["name"], row["sha256"], row["key"]) == ("a-teacher", "b" * 64, TEACHER.key)
    assert (row["role"], row["architecture"], row["imgsz"]) == ("teacher", "yolo11s", 640)
    assert (row["classes"], row["dataset_digest"]) == (["car", "bus"], "d" * 64)
    assert row["metrics"] == {"val/mAP50": 0.5, "val/mAP50-95": 0.25}
    assert (row["job_id"], row["created_at"]) == (lease.job_id, T0 + 5)
    said = [event["message"] for event in shop.events(lease.job_id) if event["type"] == "log"]
    assert said == [f"registered as model:a-teacher@sha256:{'b' * 64}"]


def test_an_equal_job_registers_nothing_new_but_says_what_to_call_it(shop: Shop):
    for lease, fresh in ((shop.running(), True), (shop.running(), False)):
        with shop.database.begin() as session:
            assert model_registry.register_trained(session, lease, TEACHER, now=T0) is fresh
        assert shop.events(lease.job_id)[-1]["message"] == f"registered as model:a-teacher@sha256:{'b' * 64}"
    assert len(shop.rows("models")["models"]) == 1


def test_what_is_not_known_of_a_network_is_left_open(shop: Shop):
    lease = shop.running()
    with shop.database.begin() as session:
        model_registry.register_trained(session, lease, replace(TEACHER, metadata={}), now=T0)
    (row,) = shop.rows("models")["models"]
    assert {row[name] for name in ("architecture", "classes", "imgsz", "metrics", "dataset_digest")} == {None}


def test_registering_and_success_are_one_transaction(shop: Shop):
    lease = shop.running()
    before = shop.rows()
    with shop.doomed() as session:
        model_registry.register_trained(session, lease, TEACHER, now=T0)
        transitions.succeed(session, lease, now=T0, result=RESULT)
    assert shop.rows() == before
