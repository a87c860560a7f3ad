"""A recipe is written out in full, and what is given beside it wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from retort.constants import USUAL_MODELS
from retort.losses import LOSS_KINDS, FeatureLoss
from retort.spec import RECIPES, digest, parse_spec

Document = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_recipe_is_written_out_in_full(recipe: Any, document: Document):
    spec = parse_spec(document(distillation={"recipe": recipe}))

    stored = spec.model_dump(mode="json")["distillation"]
    wanted = RECIPES[recipe]
    assert [loss["kind"] for loss in stored["losses"]] == [loss["kind"] for loss in wanted["losses"]]
    assert all(loss.items() <= found.items() for loss, found in zip(wanted["losses"], stored["losses"], strict=True))
    for field in ("balance", "assignment", "schedule"):
        assert stored[field] == wanted[field]
    assert spec.training.head_lr_multiplier == wanted["head_lr_multiplier"]


def test_the_article_is_what_it_says():
    spec = parse_spec(
        {
            "name": "a",
            "data": {"path": "/d"},
            "teacher": {"weights": "yolo11l.pt"},
            "distillation": {"recipe": "article"},
        }
    )

    kl, l2 = spec.distillation.losses
    assert (kl.kind, kl.weight, kl.temperature) == ("softmax_kl", 0.7, 4.0)
    assert (l2.kind, l2.weight, l2.levels) == ("channel_l2", 0.3, ("backbone", "P3"))
    assert spec.training.head_lr_multiplier == 3.0


def test_balanced_is_the_default_however_it_is_left_out(document: Document):
    named = parse_spec(document(distillation={"recipe": "balanced"}))

    assert parse_spec(document()) == parse_spec(document(distillation={})) == named


def test_losses_given_replace_the_recipes(document: Document):
    spec = parse_spec(document(distillation={"recipe": "article", "losses": [{"kind": "pearson", "weight": 0.5}]}))

    [loss] = spec.distillation.losses
    assert (loss.kind, loss.weight) == ("pearson", 0.5)
    assert spec.training.head_lr_multiplier == 3.0


def test_a_schedule_given_in_part_keeps_the_rest_of_the_recipes(document: Document):
    schedule = parse_spec(document(distillation={"schedule": {"floor": 0.5}})).distillation.schedule

    assert (schedule.floor, schedule.decay, schedule.warmup_epochs) == (0.5, "none", 1)


def test_a_head_learning_rate_given_beside_the_recipe_wins(document: Document):
    given = document(distillation={"recipe": "article"}, training={"head_lr_multiplier": 2})

    assert parse_spec(given).training.head_lr_multiplier == 2


def test_null_takes_the_recipes_head_learning_rate(document: Document):
    given = document(distillation={"recipe": "article"}, training={"head_lr_multiplier": None})

    assert parse_spec(given).training.head_lr_multiplier == 3.0


@pytest.mark.parametrize("model", USUAL_MODELS)
def test_weights_left_out_are_the_published_ones_and_null_is_random(model: str, document: Document):
    assert parse_spec(document(student={"model": model})).student.weights == f"{model}.pt"
    assert parse_spec(document(student={"model": model, "weights": None})).student.weights is None
    trained = parse_spec(document(teacher={"train": {"model": model}})).teacher.train
    assert trained is not None
    assert trained.weights == f"{model}.pt"


def test_the_student_is_yolov8n_and_the_control_is_on(document: Document):
    spec = parse_spec(document())

    assert (spec.student.model, spec.student.weights, spec.control) == ("yolov8n", "yolov8n.pt", True)
    assert [export.format for export in spec.exports] == ["onnx"]


def test_no_exports_may_be_wished_for(document: Document):
    assert parse_spec(document(exports=[])).exports == ()


@pytest.mark.parametrize("kind", sorted(LOSS_KINDS))
def test_every_loss_can_stand_in_a_spec(kind: str, document: Document):
    [loss] = parse_spec(document(distillation={"losses": [{"kind": kind}]})).distillation.losses

    assert type(loss) is LOSS_KINDS[kind]
    assert not isinstance(loss, FeatureLoss) or loss.levels


def test_the_document_is_not_changed_by_parsing(document: Document):
    given = document(distillation={"schedule": {}}, training={})
    before = repr(given)

    parse_spec(given)

    assert repr(given) == before


def test_the_digest_follows_what_the_spec_means_not_how_it_was_written(document: Document):
    spec = parse_spec(document())

    assert digest(parse_spec(spec.model_dump(mode="json"))) == digest(spec)
    assert digest(parse_spec(document(control=False))) != digest(spec)
    assert len(digest(spec)) == 64
