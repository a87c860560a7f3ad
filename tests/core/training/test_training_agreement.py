"""Whether a term's gradient agrees with the task's, and what becomes of one that does not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from core.training.pictures import NAMES
from retort.spec import DistillationSpec
from retort.training import models
from retort.training.distillation.balancing import (
    AGREES,
    GradientBalance,
    GradientMeter,
    compare_gradients,
    gate,
    opposed,
)
from retort.training.distillation.distiller import Distiller, TeacherCandidate, make_distiller
from retort.training.ultralytics_api import get_cfg
from torch.nn.functional import cosine_similarity

LABELS = ["class_logits", "dfl", "pearson"]


def test_norms_and_cosines_are_those_of_all_feature_maps_together():
    torch.manual_seed(0)
    shared = [torch.rand(2, 3, 4, 4, requires_grad=True), torch.rand(2, 5, 2, 2, requires_grad=True)]
    task = sum((x**2).sum() for x in shared)
    terms = [(shared[0] - 0.3).pow(3).sum(), -task * 5, shared[1].sin().sum()]
    norms, cosines = compare_gradients(task, terms, shared)

    found = []
    for value in (task, *terms):
        parts = torch.autograd.grad(value, shared, retain_graph=True, allow_unused=True)
        wholes = [torch.zeros_like(x) if g is None else g for g, x in zip(parts, shared, strict=True)]
        found.append(torch.cat([g.flatten() for g in wholes]))
    for index in range(3):
        assert float(cosines[index]) == pytest.approx(
            float(cosine_similarity(found[0], found[index + 1], dim=0)), abs=1e-6
        )
        assert float(norms[index + 1] / norms[0]) == pytest.approx(float(found[index + 1].norm() / found[0].norm()))
    assert float(cosines[1]) == pytest.approx(-1)


def test_a_term_without_gradient_neither_agrees_nor_opposes():
    x = torch.ones(3, requires_grad=True)
    meter = GradientMeter()
    meter.observe(x.sum(), [torch.tensor(1.0), -x.sum()], [x])
    meter.observe(x.sum() * float("inf"), [x.sum(), x.sum()], [x])
    meter.observe(x.sum(), [x.sum(), x.sum()], [x], objects=False)

    assert meter.cosines().tolist() == pytest.approx([0, -1])
    meter.observe(x.sum(), [x.sum(), -x.sum()], [x])
    assert meter.cosines().tolist() == pytest.approx([1, -1])  # a mean over what is known


def test_images_without_labels_make_a_cosine_smaller_and_never_change_its_sign():
    labelled = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
    found = []
    for more in (0, 2, 6):
        x = torch.cat([labelled, torch.full((more, 4), 0.5)]).requires_grad_()
        task, term = x[:2].square().sum(), (x * torch.tensor([1.0, -3.0, -1.0, 0.5])).sum()
        found.append(float(compare_gradients(task, [term], [x])[1]))

    assert all(cosine < 0 for cosine in found)
    assert all(abs(after) < abs(before) for before, after in pairwise(found))


def test_the_gate_closes_where_a_term_opposes_and_goes_smoothly_up_to_its_whole_weight():
    cosines = torch.linspace(-1, 1, 2001)
    factors = gate(cosines)

    assert factors[cosines <= 0].tolist() == [0] * 1001
    assert factors[cosines >= AGREES].tolist() == [1] * int((cosines >= AGREES).sum())
    steps = factors.diff()
    assert bool((steps >= 0).all())
    assert float(steps.max()) < 0.02
    assert float(gate(torch.tensor([AGREES / 2]))) == pytest.approx(0.5)


@pytest.mark.parametrize("opposes", [True, False])
def test_a_projected_term_has_no_component_against_the_task_where_both_meet(opposes: bool):
    """Of several terms, only the one that opposes loses something."""
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(2, 3, 4, 4, generator=generator).requires_grad_()
    task = (features**2).sum()
    bent = torch.rand(2, 3, 4, 4, generator=generator) * (-1 if opposes else 1)
    terms, weights = [(features * bent).sum(), features.pow(3).sum()], torch.tensor([2.0, 0.5])
    meter = GradientMeter()
    meter.observe(task, terms, [features])

    def gradient(value: torch.Tensor) -> torch.Tensor:
        (found,) = torch.autograd.grad(value, features, retain_graph=True)
        return found.flatten()

    plain = gradient(weights[0] * terms[0])
    kept = gradient(weights[0] * terms[0] + task * opposed(weights, meter.cosines(), meter.lengths()))
    assert bool(plain @ gradient(task) < 0) is opposes
    if opposes:
        assert float(kept @ gradient(task)) == pytest.approx(0, abs=1e-3)
        assert float(kept.norm()) < float(plain.norm())
    else:
        assert torch.equal(kept, plain)


def student_of(model: str, seed: int) -> Any:
    network = models.build(model, names=NAMES, weights=None, seed=seed)
    network.args = get_cfg()
    return network


def taught(agreement: str, balance: str = "gradient", teachers: int = 1) -> Distiller:
    spec = DistillationSpec.model_validate(
        {"agreement": agreement, "balance": balance, "assignment": "student", "schedule": {"warmup_epochs": 0}}
    )
    first, *further = [TeacherCandidate(student_of("yolo11n", seed)) for seed in range(1, teachers + 1)]
    options = {"device": torch.device("cpu"), "epochs": 4, "close_mosaic": 0, "seed": 0}
    return make_distiller(student_of("yolov8n", 0), first, spec, further=further, **options).train()


KNOWN = {
    "steps": 1000, "measured_at": 999, "sums": [6.0, 2.0, 3.0, 1.0], "mass": [1.0] * 4,
    "cosines": {"sums": [-0.5, AGREES / 2, 0.5], "mass": [1.0] * 3},
}  # fmt: skip
"""Gradients as they were measured one step ago, so that this step measures nothing."""


def test_a_term_that_opposes_the_task_is_told_and_gated_or_projected(batch: dict[str, Any]):
    losses, items = {}, {}
    for agreement in ("none", "gate", "project"):
        distiller = taught(agreement)
        assert distiller.objective is not None
        distiller.objective.restore({"balance": KNOWN})
        loss, items[agreement] = distiller(batch)
        losses[agreement] = loss.detach()

    plain = items["none"]
    for found in items.values():
        assert [float(found[f"agreement/{label}"]) for label in LABELS] == pytest.approx([-0.5, AGREES / 2, 0.5])
    for label, factor in zip(LABELS, (0.0, 0.5, 1.0), strict=True):
        assert float(items["gate"][f"kd/{label}"]) == pytest.approx(factor * float(plain[f"kd/{label}"]))
        assert float(items["project"][f"kd/{label}"]) == pytest.approx(float(plain[f"kd/{label}"]))
    # The weight of class_logits is 1: of its gradient, as long as the task's, half is against the task.
    task = losses["none"][:-1].sum()
    assert float((losses["project"] - losses["none"])[-1]) == pytest.approx(0.5 * float(task), rel=1e-4)
    assert items["project"]["kd_loss"] == plain["kd_loss"]


@pytest.mark.parametrize("balance", ["none", "task_loss", "gradient"])
def test_what_is_measured_is_part_of_the_state_whatever_the_balance(balance: str, batch: dict[str, Any]):
    first, second = taught("gate", balance), taught("gate", balance)
    first(batch)
    assert first.objective is not None
    assert second.objective is not None
    state = first.objective.state()
    second.objective.restore(state)
    second.student_model.load_state_dict(first.student_model.state_dict())

    assert second.objective.state() == state
    ours, theirs = first(batch)[1], second(batch)[1]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert first.objective.state() == second.objective.state()
    assert set(first.objective.zero_loss(torch.device("cpu"))[1]) == {
        name for name in ours if "kd" in name or "agr" in name
    }


def test_nothing_is_measured_where_nothing_asks_for_it(batch: dict[str, Any]):
    distiller = taught("none", "task_loss")
    assert distiller.objective is not None
    assert distiller.objective.meter is None
    assert not any(name.startswith("agreement/") for name in distiller(batch)[1])


def test_each_of_several_teachers_has_an_agreement_of_its_own(batch: dict[str, Any]):
    _, items = taught("project", teachers=2)(batch)
    apart = [items[f"agreement/pearson@{number}"] for number in (1, 2)]

    assert apart[0] != apart[1]
    assert float(items["agreement/pearson"]) == pytest.approx(float(sum(apart)) / 2)


def test_a_balance_that_an_earlier_version_measured_goes_on():
    x = torch.ones(3, requires_grad=True)
    balance = GradientBalance()
    balance.restore({"steps": 90, "measured_at": 89, "sums": [6.0, 2.0], "mass": [1.0, 1.0]}, torch.device("cpu"))

    assert balance(x.sum(), [x.sum()], [x]).tolist() == pytest.approx([3.0])
    assert balance.cosines().tolist() == [0]
    balance.measure_next()
    balance(x.sum(), [x.sum()], [x])
    assert balance.cosines().tolist() == pytest.approx([1])
