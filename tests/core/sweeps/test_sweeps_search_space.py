"""From a point to a spec: where values go, what follows from them, and whose mistake a wrong one is."""

from __future__ import annotations

from typing import Any

import pytest
from retort.errors import SpecError
from retort.spec import SweepSpec, parse_sweep
from retort.sweeps.search_space import check, child, grid

BASE = {"name": "a", "data": {"path": "/data"}, "teacher": {"weights": "yolo11l.pt"}}


def sweep(parameters: dict[str, Any], base: dict[str, Any] | None = None, **search: Any) -> SweepSpec:
    given = {"name": "s", "base": base or BASE, "parameters": parameters, "search": search or {"strategy": "grid"}}
    return parse_sweep(given)


def values(*given: Any, **more: Any) -> dict[str, Any]:
    return {"values": list(given), **more}


def test_a_grid_is_every_combination_with_the_last_parameter_fastest():
    found = sweep({"training.epochs": values(1, 2), "training.batch": values(8, 16)})
    assert [tuple(point.values()) for point in grid(found)] == [(1, 8), (1, 16), (2, 8), (2, 16)]
    assert len(check(found)) == found.num_trials == 4


def test_a_trial_is_named_after_its_sweep_and_differs_in_its_parameters_only():
    found = sweep({"training.epochs": values(7)})
    spec = child(found, 3, {"training.epochs": 7})
    assert (spec.name, spec.training.epochs) == ("s-0003", 7)
    assert found.base == BASE, "the base is left as it was"


def test_a_value_goes_into_what_a_preset_fills_in():
    found = sweep({"distillation.losses.0.temperature": values(4.0)}, {**BASE, "distillation": {"recipe": "article"}})
    (spec,) = check(found)
    assert [(loss.kind, loss.weight) for loss in spec.distillation.losses] == [("softmax_kl", 0.7), ("channel_l2", 0.3)]
    assert spec.distillation.losses[0].model_dump()["temperature"] == 4.0


def test_what_follows_from_a_value_follows():
    recipes = check(sweep({"distillation.recipe": values("article", "native")}))
    assert [spec.distillation.losses[0].kind for spec in recipes] == ["softmax_kl", "score_weighted_l2"]
    assert [spec.training.head_lr_multiplier for spec in recipes] == [3.0, 1.0]
    models = check(sweep({"student.model": values("yolov8s", "yolo11n")}))
    assert [spec.student.weights for spec in models] == ["yolov8s.pt", "yolo11n.pt"]


def test_an_inner_place_changes_what_an_outer_one_has_set():
    found = sweep({"distillation.losses.0.weight": values(0.2), "distillation.recipe": values("article", "native")})
    assert [(spec.distillation.recipe, spec.distillation.losses[0].weight) for spec in check(found)] == [
        ("article", 0.2), ("native", 0.2)
    ]  # fmt: skip


def test_fields_that_move_along_have_the_value_at_the_same_place():
    moved = values(0.7, 0.3, also={"distillation.losses.1.weight": [0.3, 0.7]})
    found = sweep({"distillation.losses.0.weight": moved}, {**BASE, "distillation": {"recipe": "article"}})
    assert [[loss.weight for loss in spec.distillation.losses] for spec in check(found)] == [[0.7, 0.3], [0.3, 0.7]]


@pytest.mark.parametrize(
    ("parameters", "path", "message"),
    [
        ({"training.epohs": values(1)}, "parameters.training.epohs", "unknown field 'epohs'"),
        ({"distillation.losses.9.weight": values(1.0)}, "parameters.distillation.losses.9.weight", "has 3 items"),
        ({"training.batch.size": values(1)}, "parameters.training.batch.size", "must be a mapping|should be|nowhere"),
        ({"training.batch": values(8, -1)}, "parameters.training.batch", "greater than or equal to 2, got -1"),
        ({"training.lr": values("0.1")}, "parameters.training.lr", "valid number, got '0.1'"),
        ({"resources.gpus": values(1, 3)}, "parameters", "with resources.gpus = 3, training.batch: does not divide"),
        (
            {"training.epochs": values(1, also={"training.batch": [-1]})},
            "parameters.training.epochs.also.training.batch",
            "greater than or equal to 2, got -1",
        ),
        ({"exports.0": values({"format": "onnx"})}, None, None),
        ({"exports.1.opset": values(13)}, "parameters.exports.1.opset", "has 1 items"),
    ],
)
def test_a_wrong_combination_is_told_with_the_parameter_it_comes_from(
    parameters: dict[str, Any], path: str | None, message: str | None
):
    found = sweep(parameters)
    if path is None:
        assert check(found)
        return
    with pytest.raises(SpecError, match=message) as caught:
        check(found)
    assert caught.value.problems[0].path == path


def test_a_wrong_base_is_told_as_the_bases_mistake():
    with pytest.raises(SpecError) as caught:
        check(sweep({"training.epochs": values(1)}, {**BASE, "control": 5}))
    assert [problem.path for problem in caught.value.problems] == ["base.control"]


@pytest.mark.parametrize("strategy", ["random", "tpe"])
def test_the_ends_of_ranges_are_checked_alone_and_together(strategy: str):
    wide = {"training.epochs": {"min": 1, "max": 20_000}, "training.batch": {"min": 2, "max": 64}}
    with pytest.raises(SpecError) as caught:
        check(sweep(wide, strategy=strategy, trials=5))
    assert caught.value.problems[0].path == "parameters.training.epochs"
    assert "20000" in caught.value.problems[0].message
    together = {"training.epochs": {"min": 1, "max": 5}, "distillation.schedule.warmup_epochs": {"min": 0, "max": 2}}
    with pytest.raises(SpecError, match=r"warmup_epochs = 2"):
        check(sweep(together, strategy=strategy, trials=5))
