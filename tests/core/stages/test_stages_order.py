"""Stages are found by being there, and ordered by what they say they come after."""

from __future__ import annotations

import pytest
from retort.pipeline.context import Stage, StageModule, find, ordered
from retort.spec import parse_spec


def stage(name: str, after: str | None) -> Stage:
    class Module:
        pass

    module: StageModule = Module()  # type: ignore[assignment]
    return Stage(name, after, module)


def names(stages: list[Stage]) -> list[str]:
    return [stage.name for stage in stages]


def test_the_stages_of_a_run_are_in_their_order():
    labelling = ["pseudo_label", "review", "teach_ahead"]
    training = ["pilot", "distill", "control", "repeat", "arms"]
    assert names(find()) == ["check", "train_teacher", *labelling, *training, "evaluate", "export", "report"]


def test_advice_has_a_stage_of_its_own_and_no_other():
    (only,) = find("advise")
    spec = parse_spec({"task": "advise", "data": {"path": "/d"}, "candidates": ["yolo11l.pt"]})
    assert only.name == "advise"
    assert only.module.applies(spec)
    assert only.module.cost(spec) > 0


def test_an_added_stage_runs_right_after_the_one_it_names():
    added = ordered([*find(), stage("quantize", "distill")])
    place = names(added).index("distill")
    assert names(added)[place : place + 3] == ["distill", "quantize", "control"]
    assert names(added)[-1] == "report"


def test_stages_of_one_predecessor_are_in_a_stable_order():
    stages = [stage("c", "a"), stage("b", "a"), stage("a", None)]
    assert names(ordered(stages)) == names(ordered(stages[::-1])) == ["a", "b", "c"]


def test_a_stage_after_one_that_does_not_exist_is_a_programmers_mistake():
    with pytest.raises(AssertionError, match="b is after nowhere"):
        ordered([stage("a", None), stage("b", "nowhere")])


def test_stages_that_wait_for_each_other_are_a_programmers_mistake():
    with pytest.raises(AssertionError, match="wait for each other"):
        ordered([stage("root", None), stage("a", "b"), stage("b", "a")])


def test_a_job_has_the_stages_that_its_spec_asks_for_and_each_costs_something():
    spec = {"name": "x", "data": {"path": "/d"}, "teacher": {"weights": "yolo11l.pt"}, "control": False, "exports": []}
    applying = [stage for stage in find() if stage.module.applies(parse_spec(spec))]
    assert names(applying) == ["check", "distill", "evaluate", "report"]
    assert all(stage.module.cost(parse_spec(spec)) > 0 for stage in applying)


def test_a_big_teacher_makes_distilling_dearer_than_the_control():
    spec = parse_spec({"name": "x", "data": {"path": "/d"}, "teacher": {"weights": "yolo11l.pt"}})
    costs = {stage.name: stage.module.cost(spec) for stage in find() if stage.module.applies(spec)}
    assert costs["distill"] > costs["control"] > 10 * costs["evaluate"]
