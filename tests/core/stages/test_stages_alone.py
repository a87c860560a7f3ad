"""Single stages, on the folder of a finished run."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from core.answers import answers
from core.conftest import Life
from results import result
from retort.constants import Role
from retort.data.inputs import Inputs, UnlabelledInfo
from retort.errors import DataError, Diverged, Stopped
from retort.exports.onnx import Onnx
from retort.pipeline import runner
from retort.pipeline.answers import DroppedControl, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.export_workspace import ExportWorkspace
from retort.pipeline.results import key_of
from retort.pipeline.train import JournalCallback
from retort.protocol import journal
from retort.protocol.events import AnyEvent, ArtifactEvent, LogEvent
from retort.protocol.journal import Journal
from retort.protocol.workdir import Heartbeat
from retort.spec import JobSpec, parse_spec
from retort.spec.exported import MeasuredExport
from retort.stages import control, evaluate, export
from retort.stages.distill import train_config
from retort.training import models
from retort.training.export import onnx
from retort.training.export.onnx import export_onnx
from retort.training.models import publish


@pytest.fixture
def context(life: Life, tmp_path: Path) -> Iterator[Context]:
    """The view of a stage that comes after all others, in a copy of the folder."""
    workdir = Path(shutil.copytree(life.workdir, tmp_path / "work", symlinks=True))
    with Journal(workdir / "journal-9.jsonl") as said:
        yield Context(
            spec=JobSpec.model_validate_json((workdir / "spec.json").read_text()),
            inputs=Inputs.load(workdir),
            workdir=workdir,
            journal=said,
            stop=threading.Event(),
            results=answers(workdir),
            tell_progress=lambda _: None,
            heartbeat=Heartbeat(workdir),
            stage="extra",
            key="",
        )


def said(context: Context) -> list[AnyEvent]:
    return journal.read(context.journal.path)[0]


def test_an_export_that_gives_other_boxes_is_told_and_not_published(context: Context, monkeypatch: pytest.MonkeyPatch):
    def of_another_network(bench: ExportWorkspace, _: Any, path: Path, kept: Any) -> None:
        assert not kept
        network = models.load(bench.weights)
        network.model[-1].cv2[0][-1].weight.data[:8] += 100  # other boxes at the finest level
        publish(network, path.with_name("other.pt"), names=network.names, imgsz=64)
        export_onnx(path.with_name("other.pt"), path, 64)

    monkeypatch.setattr(onnx, "make", of_another_network)
    (made,) = export.run(context).exports
    assert (made.status, made.files) == ("differs", ())
    assert "does not give the student's boxes" in (made.reason or "")
    assert not any(isinstance(event, ArtifactEvent) for event in said(context))
    assert any(isinstance(event, LogEvent) and event.level == "warning" for event in said(context))


def test_an_export_that_cannot_be_made_does_not_fail_the_others(context: Context):
    asked = document_with(context, [{"format": "onnx", "precision": "int8"}, {"format": "torchscript"}])
    first, second = export.run(replace(context, spec=asked)).exports
    assert (first.status, second.status) == ("failed", "no_score")  # this student has learned nothing
    assert "INT8 needs at least 50 training images" in (first.reason or "")
    assert isinstance(second, MeasuredExport)
    assert second.num_unequal == 0


def test_int8_ranges_come_from_the_folder_that_an_export_names(context: Context, tmp_path: Path):
    scenes = tmp_path / "scenes"
    shutil.copytree(context.inputs.data_yaml.parent / "images/train", scenes)
    known = UnlabelledInfo(
        root=str(scenes), folder=scenes, num_images=len(list(scenes.iterdir())), num_shared=0, digest="x"
    )
    inputs = context.inputs.model_copy(update={"calibration": {"mine": known}})
    bench = ExportWorkspace(replace(context, inputs=inputs), tmp_path / "no.pt", imgsz=64, seed=0)
    chosen = bench.calibration(Onnx(precision="int8", calibration_path="mine"))
    assert set(chosen.images) == set(scenes.iterdir())
    with pytest.raises(DataError, match="at least 50 training images"):
        bench.calibration(Onnx(precision="int8"))
    assert key_of(context.spec, inputs) != key_of(context.spec, context.inputs)


def test_what_only_tensorrt_can_make_leaves_what_to_make_it_from(context: Context):
    asked = document_with(context, [{"format": "engine", "precision": "fp16"}])
    (made,) = export.run(replace(context, spec=asked)).exports
    assert (made.status, made.files) == ("needs", ("student-fp16.engine.onnx",))
    assert "trtexec --onnx=student-fp16.engine.onnx --saveEngine=student-fp16.engine --fp16" in (made.hint or "")
    runner._forewarn(asked, context.journal)
    assert sum("TensorRT" in event.message for event in said(context) if isinstance(event, LogEvent)) == 2


def document_with(context: Context, exports: list[dict[str, Any]]) -> JobSpec:
    return parse_spec(context.spec.model_dump(mode="json") | {"exports": exports})


def test_a_teacher_that_is_weaker_than_its_student_is_told(context: Context):
    evaluate.warn(context, result(0.2, 0.3).roles)
    evaluate.warn(context, result(0.3, 0.3).roles)
    (event,) = said(context)
    assert isinstance(event, LogEvent)
    assert event.level == "warning"
    assert event.data == {"teacher": 0.2, "student": 0.3}


def test_data_with_a_test_split_are_measured_on_it_and_no_epoch_was_chosen_there(context: Context):
    told = yaml.safe_load(context.inputs.data_yaml.read_text())
    context.inputs.data_yaml.write_text(yaml.safe_dump({**told, "test": "images/train"}))
    data = context.inputs.dataset.model_copy(update={"num_test": context.inputs.dataset.num_train})
    seen = replace(context, inputs=context.inputs.model_copy(update={"dataset": data}))

    roles = evaluate.run(seen).roles

    assert {figures.split for _, figures in roles.rows()} == {"test"}
    assert roles.student.last is None
    assert " split=test " in (roles.student.command or "")
    boxes = sum(size.number for size in roles.student.by_size.values())
    labels = (context.inputs.data_yaml.parent / "labels" / "train").glob("*.txt")
    assert boxes == sum(len(path.read_text().splitlines()) for path in labels)


@pytest.mark.parametrize("figures", [(float("nan"), 0.5), (0.5, float("inf"))])
def test_figures_that_are_no_numbers_end_the_job_before_anything_stands_beside_them(figures: tuple[float, float]):
    with pytest.raises(Diverged, match=r"student\.pt is not a finite number"):
        evaluate.refuse_nonsense("student.pt", *figures)
    evaluate.refuse_nonsense("teacher.pt", None, None)  # knows none of the classes


def test_checkpoints_of_the_control_are_not_published(context: Context, tmp_path: Path):
    JournalCallback(context, train_config(context, Role.CONTROL)).checkpoint(1, tmp_path / "x.pt", {})
    assert said(context) == []


def test_a_student_that_an_earlier_job_finished_early_gets_no_control_of_full_length(context: Context):
    student = context.needed("distill", TrainedNetwork).model_copy(update={"epochs": 1})
    results = {**context.results, "distill": student}
    assert control.run(replace(context, results=results)) == DroppedControl(dropped=control.WHY)
    (event,) = said(context)
    assert isinstance(event, LogEvent)
    assert "no gain" in event.message
    assert not (context.workdir / "work" / "control").exists()


def test_a_run_that_is_told_to_stop_begins_no_stage(context: Context):
    context.stop.set()
    with pytest.raises(Stopped):
        runner.run_stages(context.spec, context.inputs, context.workdir, context.journal, context.stop)
    assert {event.type for event in said(context)} <= {"log"}  # what intake noticed


def test_a_run_whose_stages_are_all_finished_only_repeats_its_result(context: Context):
    again = runner.run_stages(context.spec, context.inputs, context.workdir, context.journal, context.stop)
    assert again == context.results["report"]
    events = said(context)
    assert not any(event.type in {"stage", "metric"} for event in events)
    assert "student.pt" in {event.name for event in events if isinstance(event, ArtifactEvent)}


def test_what_intake_noticed_is_passed_on(context: Context):
    data = context.inputs.dataset.model_copy(update={"notes": ("data.yaml: x is ignored",), "num_shared": 4})
    inputs = context.inputs.model_copy(update={"dataset": data})
    runner.run_stages(context.spec, inputs, context.workdir, context.journal, context.stop)
    told = {event.message: event.level for event in said(context) if isinstance(event, LogEvent)}
    assert told["data.yaml: x is ignored"] == "info"
    assert [level for message, level in told.items() if message.startswith("4 of the 4 validation")] == ["warning"]
