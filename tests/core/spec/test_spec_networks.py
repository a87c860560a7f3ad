"""Which network a spec names, and what it begins from, is filled in by what is left out."""

from __future__ import annotations

import re
from typing import Any

import pytest
from retort.constants import MODEL_NAMES
from retort.errors import SpecError
from retort.spec import JobSpec, StudentSpec, definition_names, parse_spec, schema, weight_names


def spec(student: Any, **changes: Any) -> JobSpec:
    given = {"name": "job", "data": {"path": "/d"}, "teacher": {"weights": "yolo11l.pt"}, **changes}
    made = parse_spec(given if student is None else {**given, "student": student})
    assert isinstance(made, JobSpec)
    return made


@pytest.mark.parametrize(
    ("written", "model", "weights", "label"),
    [
        (None, "yolov8n", "yolov8n.pt", "yolov8n"),
        ({}, "yolov8n", "yolov8n.pt", "yolov8n"),
        ({"weights": None}, "yolov8n", None, "yolov8n"),
        ({"weights": "mine.pt"}, None, "mine.pt", "mine"),
        ({"model": None, "weights": "mine.pt"}, None, "mine.pt", "mine"),
        ({"weights": "yolov5nu.pt"}, "yolov5n", "yolov5nu.pt", "yolov5n"),
        ({"model": "yolov5n"}, "yolov5n", "yolov5nu.pt", "yolov5n"),
        ({"model": "yolov5n-p6"}, "yolov5n-p6", "yolov5n6u.pt", "yolov5n-p6"),
        ({"model": "yolov8n", "weights": "mine.pt"}, "yolov8n", "mine.pt", "yolov8n"),
        ({"model": "yolov8n-ghost-p2", "weights": None}, "yolov8n-ghost-p2", None, "yolov8n-ghost-p2"),
        ({"model": "own.yaml", "weights": None}, "own.yaml", None, "own"),
    ],
)
def test_what_is_left_out_follows_from_what_is_written(
    written: Any, model: str | None, weights: str | None, label: str
):
    found = spec(written).student
    assert (found.model, found.weights, found.label) == (model, weights, label)
    assert StudentSpec.model_validate(found.model_dump()) == found


@pytest.mark.parametrize(
    ("written", "path", "said"),
    [
        ({"model": "yolov8n-p2"}, "student.weights", "there are no published weights of yolov8n-p2"),
        ({"model": "own.yaml"}, "student.weights", "there are no published weights of own.yaml"),
        ({"model": "yolov8z", "weights": None}, "student.model", "not one of the known values"),
        ({"model": "rtdetr-l"}, "student.model", "not one of the known values"),
        ({"model": "nets/own.yaml", "weights": None}, "student.model", "must be a bare file name"),
    ],
)
def test_a_network_that_cannot_be_meant_is_refused(written: dict[str, Any], path: str, said: str):
    with pytest.raises(SpecError) as caught:
        spec(written)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert said in problem.message
    assert problem.hint


def test_a_teacher_to_be_trained_says_what_it_is_in_the_same_words():
    teacher = {"train": {"weights": "big.pt", "epochs": 3}, "ensemble": [{"weights": "more.pt"}]}
    found = spec({"model": "own.yaml", "weights": None}, teacher=teacher)
    assert found.teacher.train is not None
    assert found.teacher.train.model is None
    assert definition_names(found) == {"student.model": "own.yaml"}
    assert weight_names(found) == {"teacher.train.weights": "big.pt", "teacher.ensemble.0.weights": "more.pt"}
    with pytest.raises(SpecError, match="is missing, and so is weights"):
        spec(None, teacher={"train": {"epochs": 3}})


def test_the_schema_knows_every_name():
    options = schema()["$defs"]["StudentSpec"]["properties"]["model"]["anyOf"]
    pattern = next(option["pattern"] for option in options if "pattern" in option)
    assert all(re.search(pattern, name) for name in (*MODEL_NAMES, "own.yaml"))
    assert not any(re.search(pattern, name) for name in ("yolov8z", "rtdetr-l", "a/own.yaml", ".own.yaml"))


@pytest.mark.parametrize(
    ("training", "path"),
    [
        ({"momentum": 0.8}, "training.momentum"),
        ({"freeze": -1}, "training.freeze"),
        ({"freeze": ["22.cv2", "no layer"]}, "training.freeze"),
        ({"fliplr": 1.5}, "training.fliplr"),
        ({"multi_scale": 1.0}, "training.multi_scale"),
        ({"patience": -1}, "training.patience"),
        ({"batch": "automatic"}, "training.batch"),
        ({"batch": 1}, "training.batch"),
        ({"batch": True}, "training.batch"),
    ],
)
def test_training_fields_outside_what_they_mean_are_refused(training: dict[str, Any], path: str):
    with pytest.raises(SpecError) as caught:
        spec(None, training=training)
    assert all(problem.path.startswith(path) for problem in caught.value.problems)


def test_images_of_changing_sizes_do_not_go_with_a_teacher_of_another_size():
    with pytest.raises(SpecError, match=r"multi_scale"):
        spec(None, teacher={"weights": "yolo11l.pt", "imgsz": 960}, training={"multi_scale": 0.5})
