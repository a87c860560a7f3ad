"""The advice of each rule, for the spec of the job that it is given to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from retort.losses import LOSS_KINDS
from retort.spec import JobSpec
from retort.spec.distillation import RECIPES
from retort.training.health.rules import RULES, Rule

BASE: dict[str, Any] = {"name": "advised", "data": {"path": "/data/x.zip"}, "teacher": {"weights": "teacher.pt"},
                        "student": {"model": "yolov8n"}}  # fmt: skip
TRAININGS: list[dict[str, Any]] = [
    {}, {"optimizer": "SGD", "lr": 0.01}, {"optimizer": "AdamW", "lr": 1e-4, "head_lr_multiplier": 1.0},
    {"epochs": 5, "close_mosaic": 0},
]  # fmt: skip
DISTILLATIONS: list[dict[str, Any]] = [
    *({"recipe": recipe} for recipe in RECIPES),
    *({"recipe": recipe, "balance": "gradient"} for recipe in RECIPES),
    *({"losses": [{"kind": kind}]} for kind in sorted(LOSS_KINDS)),
    {"losses": [{"kind": "class_logits", "temperature": 2.0, "weight": 3.0}], "balance": "task_loss"},
    {"losses": [{"kind": "class_logits", "temperature": 0.5, "beta": 4.0}], "balance": "none"},
    {"losses": [{"kind": "class_logits", "weight": 1000.0}, {"kind": "pearson", "weight": 0.0}]},
    {"schedule": {"decay": "cosine", "floor": 0.2}},
    {"schedule": {"decay": "linear"}},
    {"schedule": {"decay": "linear", "stop_with_mosaic": True}},
]


def document(distillation: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the written-out spec of a job."""
    spec = JobSpec.model_validate({**BASE, "distillation": dict(distillation), "training": dict(training)})
    return spec.model_dump(mode="json")


def place(whole: dict[str, Any], name: str) -> tuple[Any, Any]:
    """Return what holds the dotted field, and its key there."""
    *above, last = [int(part) if part.isdigit() else part for part in name.split(".")]
    at: Any = whole
    for part in above:
        at = at[part]
    return at, last


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_advice_never_says_what_the_spec_says_already_and_can_be_followed(rule: Rule) -> None:
    """It said "set the temperature to 1" where it was 1, and "set balance: gradient" where it was."""
    for distillation, training in itertools.product(DISTILLATIONS, TRAININGS):
        whole = document(distillation, training)
        for _ in range(3):  # followed again and again
            spec = JobSpec.model_validate(whole)
            advice = rule.advise(spec.distillation, spec.training)
            assert str(advice)
            assert advice.changes or advice.text
            for name, value in advice.changes.items():
                at, key = place(whole, name)
                before = at[key]
                assert before != value, (distillation, training, name)
                if name in advice.present:
                    assert advice.present[name] == before, (distillation, training, name)
                at[key] = value
            whole = JobSpec.model_validate(whole).model_dump(mode="json")


@pytest.mark.parametrize(
    ("rule", "distillation", "said"),
    [
        ("background_dominates", {"recipe": "balanced"}, "Set distillation.losses.0.beta to 2 (it is 1)."),
        ("background_dominates", {"recipe": "article"},
         "Set distillation.losses.0 to {kind: class_logits, weight: 0.7} (it is {kind: softmax_kl, weight: 0.7})."),
        ("distillation_drowns_task", {"recipe": "native"},
         ("Set distillation.balance to gradient (it is none). Set distillation.losses.0.weight to 1 (it is 6). "
         "Weights are then shares of the task's gradient.")),
        ("distillation_drowns_task", {"recipe": "balanced"},
         ("Set distillation.losses.0.weight to 0.5 (it is 1). Set distillation.losses.1.weight to 0.25 (it is 0.5). "
         "Set distillation.losses.2.weight to 0.25 (it is 0.5).")),
    ],
)  # fmt: skip
def test_advice_names_fields_with_their_new_and_present_values(
    rule: str, distillation: dict[str, Any], said: str
) -> None:
    (found,) = (one for one in RULES if one.name == rule)
    spec = JobSpec.model_validate({**BASE, "distillation": distillation})

    assert str(found.advise(spec.distillation, spec.training)) == said
