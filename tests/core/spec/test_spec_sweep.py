"""The sweep document: what it may say, and how each mistake in it is told."""

from __future__ import annotations

from typing import Any

import pytest
from retort.errors import SpecError
from retort.spec import digest, parse_document, parse_sweep, sweep_schema

BASE = {"name": "a", "data": {"path": "/data"}, "teacher": {"weights": "yolo11l.pt"}}
LR = {"min": 0.001, "max": 0.1}


def document(parameters: Any, **more: Any) -> dict[str, Any]:
    return {"name": "s", "base": BASE, "parameters": parameters, "search": {"strategy": "grid"}, **more}


def problems(given: Any) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        parse_sweep(given)
    return [(problem.path, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("domain", "every"),
    [
        ({"values": [2.0, "x", [1]]}, (2.0, "x", [1])),
        ({"min": 1, "max": 3}, (1, 2, 3)),
        ({"min": 8, "max": 30, "step": 8}, (8, 16, 24)),
        ({"min": 0.1, "max": 0.7, "step": 0.2}, (0.1, 0.3, 0.5, 0.7)),
        ({"min": 1, "max": 2, "type": "float", "step": 0.5}, (1.0, 1.5, 2.0)),
        ({"min": 1.0, "max": 3.0, "type": "int"}, (1, 2, 3)),
    ],
)
def test_a_countable_domain_visits_each_of_its_values_once(domain: dict[str, Any], every: tuple[Any, ...]):
    sweep = parse_sweep(document({"training.lr": domain}))
    found = sweep.parameters["training.lr"].every()
    assert found == every
    assert [type(value) for value in found or ()] == [type(value) for value in every]
    assert sweep.num_trials == len(every)


def test_a_range_without_steps_has_ends_but_no_end_of_values():
    sweep = parse_sweep(document({"training.lr": LR}, search={"strategy": "tpe", "trials": 7}))
    assert sweep.parameters["training.lr"].every() is None
    assert sweep.parameters["training.lr"].ends() == (0.001, 0.1)
    assert sweep.num_trials == 7


def test_the_stored_document_reads_as_the_same_sweep():
    sweep = parse_sweep(document({"training.lr": {"values": [0.1, 0.2], "also": {"training.batch": [8, 16]}}}))
    again = parse_sweep(sweep.model_dump(mode="json"))
    assert (again, digest(again)) == (sweep, digest(sweep))


@pytest.mark.parametrize(
    ("parameters", "path", "message"),
    [
        ({}, "parameters", "at least 1 item"),
        ({"training..lr": LR}, "parameters.training..lr", "not in the form"),
        ({"training.lr": 5}, "parameters.training.lr", "must be a mapping, not 5"),
        ({"training.lr": {}}, "parameters.training.lr", "gives no values"),
        ({"training.lr": {"mn": 1, "max": 2}}, "parameters.training.lr.mn", "unknown field 'mn'"),
        ({"training.lr": {"min": "x", "max": 2}}, "parameters.training.lr.min", "must be a number, not 'x'"),
        ({"training.lr": {"min": True, "max": 2}}, "parameters.training.lr.min", "must be a number, not true"),
        ({"training.lr": {"min": float("nan"), "max": 2}}, "parameters.training.lr.min", "must be a number, not nan"),
        ({"training.lr": {"min": 2, "max": 1}}, "parameters.training.lr.min", "must be below max, which is 1"),
        ({"training.lr": {"min": 1}}, "parameters.training.lr", "gives no values"),
        ({"training.lr": {**LR, "values": [1]}}, "parameters.training.lr", "has both values and min"),
        ({"training.lr": {"values": [1, 1]}}, "parameters.training.lr.values.1", "'1' is listed twice"),
        ({"training.lr": {"min": 0, "max": 1, "log": True}}, "parameters.training.lr.min", "above 0 where log is true"),
        ({"training.lr": {**LR, "log": True, "step": 0.1}}, "parameters.training.lr.step", "cannot be given with log"),
        ({"training.lr": {**LR, "type": "int"}}, "parameters.training.lr.type", "no whole number"),
        ({"training.lr": LR}, "parameters.training.lr", "has no end of values"),
        ({"training.epochs": {"min": 1, "max": 5000}}, "parameters", "make 5,000 combinations"),
        (
            {"training.lr": {"values": [1, 2], "also": {"training.batch": [8]}}},
            "parameters.training.lr.also.training.batch",
            "has 1 values where 2 are wanted",
        ),
        (
            {"training.lr": {"values": [1], "also": {"training.batch": [8]}}, "training.batch": {"values": [8]}},
            "parameters",
            "'training.batch' is given twice",
        ),
    ],
)
def test_a_mistake_about_a_parameter_names_it(parameters: dict[str, Any], path: str, message: str):
    [(found, told)] = problems(document(parameters))
    assert found == path
    assert message in told


@pytest.mark.parametrize(
    ("search", "path"),
    [
        ({"strategy": "tpe"}, "search.trials"),
        ({"strategy": "grid", "trials": 3}, "search.trials"),
        ({"strategy": "grid", "pruning": True}, "search.pruning"),
        ({"strategy": "tpe", "trials": 1001}, "search.trials"),
        ({"strategy": "bayes", "trials": 3}, "search.strategy"),
        (None, "search"),
    ],
)
def test_a_mistake_about_the_search_names_its_field(search: Any, path: str):
    assert [found for found, _ in problems(document({"training.epochs": {"values": [1]}}, search=search))] == [path]


@pytest.mark.parametrize("given", [None, 5, [], "text"])
def test_what_is_no_mapping_is_told_what_is_required(given: Any):
    assert problems(given)[0][0] == "$"


def test_a_mapping_whose_keys_are_numbers_is_refused_without_falling_over():
    assert problems(document({1: LR}))[0][0] == "parameters.1"


def test_the_schema_holds_the_specs_and_names_every_field_of_a_sweep():
    schema = sweep_schema()
    assert schema["properties"]["base"]["$ref"] == "#/$defs/JobSpec"
    assert {"JobSpec", "Domain", "Search", "Objective", "TrainingSpec"} <= schema["$defs"].keys()
    assert schema["properties"].keys() == {
        "name", "base", "parameters", "search", "objective", "concurrency", "failures"
    }  # fmt: skip


def test_numbers_in_yaml_keep_their_kind():
    text = "name: s\nbase: {}\nparameters: {training.lr: {min: 1.0, max: 2.0}}\nsearch: {strategy: random, trials: 2}"
    assert not parse_sweep(parse_document(text)).parameters["training.lr"].whole
