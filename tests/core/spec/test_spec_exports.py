"""What exports may ask for: every combination that a format has not is refused, with what would be right."""

from __future__ import annotations

from typing import Any

import pytest
from retort.errors import SpecError
from retort.spec import JobSpec, parse_spec
from retort.spec.exported import AwareFigures


def parsed(student: str = "yolov8n", **export: Any) -> Any:
    given = {"name": "x", "data": {"path": "/d"}, "teacher": {"weights": "a.pt"}, "exports": [export]}
    spec = parse_spec({**given, "student": {"model": student, "weights": None}})
    assert isinstance(spec, JobSpec)
    return spec.exports[0]


@pytest.mark.parametrize(
    ("export", "field", "right"),
    [
        ({"format": "ncnn", "nms": True}, "nms", "engine, onnx, openvino, torchscript"),
        ({"format": "ncnn", "batch": 2}, "batch", "engine, onnx, openvino, torchscript"),
        ({"format": "torchscript", "precision": "fp16"}, "precision", "fp32"),
        ({"format": "torchscript", "opset": 17}, "opset", "onnx"),
        ({"format": "onnx", "imgsz": [64, 100]}, "imgsz", "multiples of 32"),
        ({"format": "onnx", "imgsz": [64, 96, 96]}, "imgsz", "[height, width]"),
        ({"format": "onnx", "imgsz": "640"}, "imgsz", "[height, width]"),
        ({"format": "onnx", "conf": 0.3}, "conf", "nms: true"),
        ({"format": "onnx", "nms": False, "iou": 0.5}, "iou", "nms: true"),
        ({"format": "openvino", "max_det": 10}, "max_det", "nms: true or nms: false"),
        ({"format": "onnx", "nms": False}, "nms", "YOLO26"),
        ({"format": "onnx", "dynamic": True, "batch": 4}, "batch", "with nms: true it is the most"),
        ({"format": "engine", "dynamic": True, "precision": "int8"}, "dynamic", "fp32"),
        ({"format": "onnx", "precision": "int8", "aware_epochs": 2, "imgsz": 64}, "imgsz", "aware_epochs"),
        ({"format": "onnx", "precision": "int8", "aware_epochs": 2, "batch": 2}, "batch", "aware_epochs"),
        ({"format": "onnx", "precision": "int8", "aware_teacher": "student"}, "aware_teacher", "aware_epochs"),
        ({"format": "onnx", "aware_epochs": 2, "aware_teacher": "none"}, "aware_teacher", "precision: int8"),
        ({"format": "openvino", "aware_epochs": 2}, "aware_epochs", "precision: int8"),
        ({"format": "onnx", "half": True}, "half", "precision: fp16"),
        ({"format": "onnx", "end2end": True}, "end2end", "nms: false"),
    ],
    ids=str,
)
def test_what_a_format_has_not_is_refused_with_what_would_be_right(export: dict[str, Any], field: str, right: str):
    with pytest.raises(SpecError) as caught:
        parsed(**export)

    (problem,) = caught.value.problems
    assert problem.path == f"exports.0.{field}"
    assert right in str(problem.hint)


def test_a_side_and_height_and_width_are_read():
    assert parsed(format="ncnn", imgsz=96).imgsz == (96, 96)
    assert parsed(format="onnx", imgsz=[384, 640]).imgsz == (384, 640)


@pytest.mark.parametrize("student", ["yolo26n", "yolov10n"])
def test_students_that_have_an_nms_free_head_may_give_it(student: str):
    assert parsed(student, format="openvino", nms=False, max_det=50).nms is False


def test_what_was_not_asked_for_is_not_in_the_document():
    """Specs of before keep their digests."""
    added = {"imgsz", "batch", "nms", "conf", "iou", "max_det", "aware_teacher"}
    assert not added & parsed(format="onnx").model_dump().keys()


def test_who_teaches_while_int8_is_simulated_is_the_student_as_it_was_unless_told():
    aware = {"format": "onnx", "precision": "int8", "aware_epochs": 2}
    assert parsed(**aware).taught_by == "student"
    assert parsed(**aware, aware_teacher="none").taught_by == "none"


def test_what_int8_loses_or_gains_is_told_in_these_words():
    """A gain was told as a loss of -3.9 points, and nothing as one of -0.0."""
    found = AwareFigures(
        teacher="none", epochs=1, best_epoch=1, maps=(0.2, 0.24), start_drop=-0.0001, drop=-0.039,
        calibrated_drop=0.0042, integer_share=0.995, taken="trained",
    )  # fmt: skip
    assert "it gains 3.9 points, untrained it loses 0.0 points; calibration alone loses 0.4 points;" in found.sentence
    assert found.sentence.endswith("99.5% of the trained weights are in 8 bits")
