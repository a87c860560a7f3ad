"""One whole job that is taught by a detector that is no YOLO."""

from __future__ import annotations

from pathlib import Path

import pytest
from core.runs import document, start
from core.training.test_training_foreign_teachers import stranger
from retort.protocol.events import FinishedEvent, LogEvent, MetricEvent

pytestmark = pytest.mark.train


def test_a_job_is_taught_by_the_boxes_of_an_onnx_detector(tmp_path: Path):
    (tmp_path / "models").mkdir()
    stranger(tmp_path / "models", "detr")
    teacher = {"weights": "detr.onnx", "adapter": {"names": ["cat", "red", "green"]}}
    run = start(tmp_path, document(tmp_path, teacher=teacher, control=False, arms=[], exports=[]))
    try:
        assert run.wait() == 0, run.log()
    finally:
        if run.process.poll() is None:
            run.kill()
    said = run.ended().said()
    messages = [event.message for event in said if isinstance(event, LogEvent)]
    told = next(message for message in messages if "it teaches boxes, no features" in message)
    assert "2 of 3 classes in common; terms class_logits, dfl; without pearson" in told
    epochs = [event.values for event in said if isinstance(event, MetricEvent) and "train/kd_loss" in event.values]
    assert len(epochs) == 2
    assert all(float(epochs[-1][f"train/kd/{term}"] or 0) > 0 for term in ("class_logits", "dfl"))
    last = said[-1]
    assert isinstance(last, FinishedEvent)
    result = last.result.model_dump(mode="json")
    assert 0 <= result["roles"]["teacher"]["map"] <= 1
    assert result["roles"]["teacher"]["num_parameters"] > 0
