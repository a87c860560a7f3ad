"""The name of an export says what is in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from retort.exports.onnx import Onnx
from retort.exports.openvino import OpenVino
from retort.protocol.events import LogEvent
from retort.protocol.journal import Journal, read
from retort.spec.exported import AwareFigures, MeasuredExport
from retort.stages.export import _name, _tell


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
def test_a_form_is_named_by_precision_options_and_format(export: object, name: str) -> None:
    assert _name(export, "student", set()) == name


def test_forms_of_one_job_are_told_apart_and_a_number_comes_last() -> None:
    """Files were called student-2.onnx."""
    taken: set[str] = set()
    forms = [Onnx(), Onnx(dynamic=True), Onnx(max_map_drop=0.5)]
    assert [_name(form, "student", taken) for form in forms] == [
        "student-fp32.onnx", "student-fp32-dynamic.onnx", "student-fp32-2.onnx",
    ]  # fmt: skip


@pytest.mark.parametrize("status", ["passed", "over_budget", "no_score"])
def test_the_log_says_of_each_form_what_its_training_did(status: str, tmp_path: Path) -> None:
    """It said so of a form within its budget alone."""
    aware = AwareFigures(
        teacher="student", epochs=1, best_epoch=0, maps=(0.4, 0.39), start_drop=0.02, drop=0.02, calibrated_drop=0.03,
        integer_share=0.99, taken="trained",
    )  # fmt: skip
    form = cast("Any", MeasuredExport).model_construct(
        path="student-int8-qat.onnx", status=status, map_drop=0.02, max_map_drop=0.01, reason=None, hint=None,
        aware=aware, latency_ms=SimpleNamespace(p50=1.0),
    )  # fmt: skip
    with Journal(tmp_path / "journal.jsonl") as journal:
        _tell(cast("Any", SimpleNamespace(journal=journal)), form)
    said = [event.message for event in read(tmp_path / "journal.jsonl")[0] if isinstance(event, LogEvent)]
    assert said[1] == f"student-int8-qat.onnx: {aware.sentence}"
