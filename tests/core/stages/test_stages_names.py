"""The name of an export says what is in it."""

from __future__ import annotations

import pytest
from retort.exports.onnx import Onnx
from retort.exports.openvino import OpenVino
from retort.stages.export import _name


@pytest.mark.parametrize(
    ("export", "name"),
    [
        (Onnx(), "student-fp32.onnx"),
        (Onnx(precision="int8"), "student-int8.onnx"),
        (Onnx(precision="int8", aware_epochs=2), "student-int8-qat.onnx"),
        (Onnx(dynamic=True, opset=17), "student-fp32-dynamic-opset17.onnx"),
        (Onnx(simplify=False), "student-fp32-unsimplified.onnx"),
        (OpenVino(), "student-fp16_openvino_model"),
    ],
)
def test_a_form_is_named_by_precision_options_and_format(export: object, name: str):
    assert _name(export, "student", set()) == name


def test_forms_of_one_job_are_told_apart_and_a_number_comes_last():
    """Files were called student-2.onnx."""
    taken: set[str] = set()
    forms = [Onnx(), Onnx(dynamic=True), Onnx(max_map_drop=0.5)]
    assert [_name(form, "student", taken) for form in forms] == [
        "student-fp32.onnx", "student-fp32-dynamic.onnx", "student-fp32-2.onnx",
    ]  # fmt: skip
