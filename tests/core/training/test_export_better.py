"""A form that is trained on with simulated INT8 stands beside one that is calibrated alone: the better is the file."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from core.training.pictures import draw
from onnx import numpy_helper
from retort.data.prepare import prepare
from retort.exports.onnx import Onnx
from retort.pipeline.context import Context
from retort.pipeline.export_workspace import ExportWorkspace
from retort.protocol.journal import Journal
from retort.protocol.workdir import Heartbeat
from retort.settings import Settings
from retort.spec import JobSpec, parse_spec
from retort.spec.exported import MeasuredExport
from retort.stages.export import produce

pytestmark = pytest.mark.train
AWARE = Onnx(precision="int8", aware_epochs=1, max_map_drop=None)


@pytest.fixture
def bench(knows: Path, tmp_path: Path) -> Iterator[ExportWorkspace]:
    """The exports of a student that finds rectangles, with images enough to calibrate on."""
    (tmp_path / "models").mkdir()
    for name in ("teacher.pt", "start.pt"):
        shutil.copyfile(knows, tmp_path / "models" / name)
    document = {
        "name": "x", "data": {"path": str(draw(tmp_path / "data", num_train=56, num_val=8))},
        "teacher": {"weights": "teacher.pt"}, "student": {"model": "yolov8n", "weights": "start.pt"},
        "training": {"imgsz": 96, "batch": 8},
    }  # fmt: skip
    spec = parse_spec(document)
    assert isinstance(spec, JobSpec)
    inputs = prepare(spec, Settings(home=tmp_path, fetch_weights=False), tmp_path / "work", attempt=1, device="cpu")
    with Journal(tmp_path / "journal.jsonl") as said:
        context = Context(
            spec=spec, inputs=inputs, workdir=tmp_path / "work", journal=said, stop=threading.Event(), results={},
            tell_progress=lambda _: None, heartbeat=Heartbeat(tmp_path / "work"), stage="export", key="",
        )  # fmt: skip
        yield ExportWorkspace(context, knows, imgsz=96, seed=0)


def made(bench: ExportWorkspace, path: Path) -> tuple[MeasuredExport, bool]:
    """Return what is known of the form, and whether the file has the symmetric ranges that a training simulates."""
    found = produce(bench, AWARE, path, "student-int8-qat.onnx")
    zeros = [
        numpy_helper.to_array(one)
        for node in onnx.load(path).graph.node
        for one in onnx.load(path).graph.initializer
        if node.op_type == "QuantizeLinear" and one.name == node.input[2]
    ]
    return found, all(zero.dtype == np.int8 for zero in zeros)


def test_the_one_that_finds_more_is_the_file(bench: ExportWorkspace, tmp_path: Path):
    first, symmetric = made(bench, tmp_path / "first.onnx")

    assert first.aware is not None
    assert first.map_drop == pytest.approx(min(first.aware.drop, first.aware.calibrated_drop))
    assert (first.aware.taken == "trained") == symmetric
    assert first.aware.start_drop == pytest.approx((first.base_map or 0) - first.aware.maps[0])

    known = bench.aware(AWARE)
    harmed = onnx.load(known.graph)
    for one in harmed.graph.initializer:
        if len(one.dims) == 4:
            one.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(one), one.name))
    onnx.save(harmed, tmp_path / "harmed.onnx")
    bench._aware[1, "student"] = replace(known, graph=tmp_path / "harmed.onnx")
    second, symmetric = made(bench, tmp_path / "second.onnx")

    assert second.aware is not None
    assert second.aware.taken == "calibrated"
    assert second.aware.drop > 0.1
    assert second.map_drop == pytest.approx(second.aware.calibrated_drop)
    assert second.calibration is not None
    assert not symmetric
    assert "and is in the file" in second.aware.sentence
