"""A run from outside: a process that reads a file, writes a folder, and says what happens."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from core.conftest import Life
from core.runs import PATIENCE_S, Ended, document, start
from retort.constants import HEATMAPS
from retort.errors import ModelError
from retort.pipeline import history
from retort.protocol.events import (
    ArtifactEvent,
    CheckpointEvent,
    FailedEvent,
    FinishedEvent,
    LogEvent,
    MetricEvent,
    ProgressEvent,
    StageEvent,
)
from retort.spec.curves import Curves
from retort.spec.samples import EpochSamples

PUBLISHED = {
    "teacher.pt", "student.pt", "health.npz", "control.pt", "student-fp32.onnx", "manifest.json", "report.json",
    "report.html", "mistakes.json", "curves.json", "samples.json",
}  # fmt: skip


def finish(life: Life) -> FinishedEvent:
    last = life.finished.said()[-1]
    assert isinstance(last, FinishedEvent), life.finished.log()
    return last


def test_a_run_that_is_asked_to_stop_says_so_and_exits_with_75(life: Life):
    assert life.stopped.code == 75
    assert life.stopped.said()[-1].type == "stopped"


def test_a_run_exits_with_0_when_it_has_finished(life: Life):
    assert life.finished.code == 0
    assert finish(life).result.model_dump(mode="json")["roles"].keys() == {
        "teacher", "student", "control", "start",
    }  # fmt: skip


def test_every_journal_is_numbered_without_gaps_and_ends_with_one_last_word(life: Life):
    for attempt in (life.stopped, life.killed, life.finished):
        events = attempt.said()
        assert [event.n for event in events] == list(range(1, len(events) + 1))
        assert [event.at for event in events] == sorted(event.at for event in events)
        assert not any(event.type in {"finished", "failed", "stopped"} for event in events[:-1])


def stages(run: Ended) -> list[str]:
    return [event.stage for event in run.said() if isinstance(event, StageEvent)]


def test_a_later_attempt_does_only_what_is_left_and_says_so(life: Life):
    assert stages(life.stopped) == ["check", "train_teacher"]
    assert stages(life.killed) == ["train_teacher", "distill"]
    assert stages(life.finished) == ["distill", "control", "evaluate", "export", "report"]
    said = [event for event in life.finished.said() if isinstance(event, LogEvent)]
    assert any(event.message == "train_teacher was finished by attempt 2" for event in said)


def test_the_curves_of_killed_attempts_have_neither_gaps_nor_steps_told_twice_by_one(life: Life):
    for run in (life.killed, life.finished):
        told = [(event.role, event.step) for event in run.said() if isinstance(event, MetricEvent)]
        assert len(told) == len(set(told))
    found = history.curves(life.workdir)
    for role, steps in (("student", [1, 2]), ("control", [1, 2]), ("teacher", [1])):
        assert list(found[role]["train/box_loss"]) == steps
        assert list(found[role]["val/mAP50-95"]) == [0, *steps], "where it starts is a point of the curve"


def test_what_trainings_leave_to_later_attempts_goes_with_their_stage(life: Life):
    assert not [role for role in ("teacher", "student", "control") if (life.workdir / "work" / role).exists()]


def test_a_later_attempt_publishes_again_what_an_earlier_one_made(life: Life):
    published = {event.name: event for event in life.finished.said() if isinstance(event, ArtifactEvent)}
    assert {name for name in published if not name.startswith(HEATMAPS)} == PUBLISHED
    assert f"{HEATMAPS}epoch-0002.jpg" in published
    for event in published.values():
        assert (life.workdir / event.path).stat().st_size > 0


def test_progress_goes_up_to_one(life: Life):
    for attempt in (life.killed, life.finished):
        told = [event.progress for event in attempt.said() if isinstance(event, ProgressEvent)]
        assert told == sorted(told)
    assert told[-1] == 1.0


def metrics(run: Ended) -> dict[tuple[str, int], dict[str, float | None]]:
    found: dict[tuple[str, int], dict[str, float | None]] = {}
    for event in run.said():
        if isinstance(event, MetricEvent):
            found.setdefault((event.role, event.step), {}).update(event.values)
    return found


def test_every_epoch_tells_losses_apart_learning_rates_and_accuracy(life: Life):
    found = {**metrics(life.killed), **metrics(life.finished)}  # the first of the student's may be resumed
    for step in (1, 2):
        student, control = found["student", step], found["control", step]
        assert {name for name in student if name.startswith("system/")} == {
            "system/images_per_second", "system/steps_per_epoch", "system/cpu_percent", "system/memory_gib",
        }, "a CPU has no figures of a GPU"  # fmt: skip
        assert all((student[name] or 0) > 0 for name in student if name.startswith("system/"))
        for name in ("train/box_loss", "train/cls_loss", "train/loss", "val/mAP50", "val/mAP50-95"):
            assert student[name] is not None
            assert control[name] is not None
        assert {"train/kd/class_logits", "train/kd/pearson", "train/kd/weight"} <= student.keys()
        assert not any(name.startswith("train/kd") for name in control)
        assert any(name.startswith("lr/") for name in student)
    assert "teacher/mAP50-95" in found["student", 0]


def test_student_checkpoints_are_announced_whole_and_set_beside_the_teacher(life: Life):
    events = [*life.killed.said(), *life.finished.said()]
    found = [event for event in events if isinstance(event, CheckpointEvent)]
    assert {(event.role, event.epoch) for event in found} == {("student", 1), ("student", 2)}
    for event in found:
        assert zipfile.is_zipfile(life.workdir / event.path)
        assert event.metrics.keys() >= {"val/mAP50", "teacher/mAP50"}
    assert any(isinstance(event, LogEvent) and "beside teacher at epoch 2" in event.message for event in events)


def test_the_report_draws_precision_by_recall_as_the_evaluation_recorded_it(life: Life):
    recorded = Curves.model_validate_json((life.workdir / "artifacts" / "curves.json").read_bytes())
    result = finish(life).result.model_dump(mode="json")
    assert list(recorded.networks) == ["student", "teacher", "control"]
    for role, one in recorded.networks.items():
        assert one.map50 == pytest.approx(result["roles"][role]["map50"], abs=1e-5)
        assert {curve.name: curve.ap50 for curve in one.classes} == pytest.approx(
            {name: scores["ap50"] for name, scores in result["roles"][role]["per_class"].items()}, abs=1e-5
        )
    assert "Precision and recall" in (life.workdir / "artifacts" / "report.html").read_text()


def test_samples_show_the_student_after_each_checkpoint_beside_every_label(life: Life):
    found = EpochSamples.model_validate_json((life.workdir / "artifacts" / "samples.json").read_bytes())
    labels = (life.home / "data" / "labels" / "val").glob("*.txt")
    number = sum(len(path.read_text().splitlines()) for path in labels)
    assert [one.epoch for one in found.epochs] == [1, 2]
    assert len(found.images) == 4
    for one in found.epochs:
        assert one.total.found + one.total.missed == number > 0
        assert len(one.boxes) == len(found.images)


def test_the_result_says_what_each_role_is_and_what_the_difference_is(life: Life):
    result = finish(life).result.model_dump(mode="json")
    for found in result["roles"].values():
        assert found["num_parameters"] > 1_000_000
        assert found["latency_ms"]["p90"] >= found["latency_ms"]["p50"] > 0
        assert found["per_class"].keys() <= {"red", "green", "blue"}
    roles = result["roles"]
    assert result["gain"]["map"] == roles["student"]["map"] - roles["control"]["map"]
    judged = result["verdict"]
    assert judged["difference"] == result["gain"]["map"]
    assert (judged["interval"]["over"], judged["interval"]["number"]) == ("images", result["dataset"]["num_val"])
    assert judged["interval"]["low"] <= judged["difference"] <= judged["interval"]["high"]
    assert judged["gap_closed"] is None
    assert (roles["teacher"]["model"], roles["teacher"]["epochs"], roles["student"]["epochs"]) == ("yolo11n", 1, 2)
    assert (result["dataset"]["num_train"], result["dataset"]["num_val"], result["device"]) == (12, 4, "cpu")
    (export,) = result["exports"]
    assert (export["format"], export["path"]) == ("onnx", "student-fp32.onnx")
    assert export["max_relative_error"] < 1e-3


def test_networks_of_one_architecture_have_one_latency_and_all_figures_are_of_one_sitting(life: Life):
    result = finish(life).result.model_dump(mode="json")
    roles, (export,) = result["roles"], result["exports"]
    student = roles["student"]["latency_ms"]
    assert student == roles["control"]["latency_ms"] == roles["start"]["latency_ms"] != roles["teacher"]["latency_ms"]
    assert export["latency_ratio"] == export["latency_ms"]["p50"] / student["p50"]


def test_where_it_started_and_how_it_ended_stand_beside_the_best_epoch(life: Life):
    result = finish(life).result.model_dump(mode="json")
    roles, (export,) = result["roles"], result["exports"]
    assert roles["start"]["model"] == roles["student"]["model"]
    assert {"best_epoch", "last", "command"}.isdisjoint(roles["start"])
    for role in ("student", "control"):
        assert roles[role]["best_epoch"] in {0, 1, 2}
        if roles[role]["best_epoch"] == 2:
            assert roles[role]["last"] == {name: roles[role][name] for name in ("map50", "map")}
        assert set(roles[role]["last"]) == {"map50", "map"}
        assert (roles[role]["split"], roles[role]["letterbox"], roles[role]["max_det"]) == ("val", "rectangle", 300)
        data = life.home / "data" / "data.yaml"
        line = f"yolo detect val model={role}.pt data={data} split=val imgsz=64 batch=16 rect=True"
        assert roles[role]["command"] == line
    assert (export["letterbox"], export["base_map"] - export["map"]) == ("square", export["map_drop"])


def test_the_published_student_opens_in_plain_yolo_without_retort(life: Life, tmp_path: Path):
    script = """
import sys
sys.modules["retort"] = None  # as if it were not installed
from ultralytics import YOLO
model = YOLO(sys.argv[1])
print(len(model.predict(sys.argv[2], imgsz=64, verbose=False)), sorted(model.names.values()))
"""
    image = next((life.home / "data/images/val").iterdir())
    environment = {"YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(life.workdir / "artifacts/student.pt"), str(image)],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().splitlines()[-1] == "1 ['blue', 'green', 'red']", done.stderr


def test_nothing_is_written_into_the_data_set(life: Life):
    found = {path.suffix for path in (life.home / "data").rglob("*") if path.is_file()}
    assert found == {".png", ".txt", ".yaml"}


@pytest.mark.train
def test_a_run_dies_with_its_parent(tmp_path: Path):
    run = start(tmp_path, document(tmp_path))
    run.until(lambda event: isinstance(event, ProgressEvent))
    run.let_go()
    assert run.wait() in {75, -signal.SIGKILL}
    deadline = time.monotonic() + PATIENCE_S
    while run.alive():
        assert time.monotonic() < deadline, "something of the run lives on"
        time.sleep(0.05)


@pytest.mark.train
def test_a_run_waits_for_a_dying_one_and_obeys_while_it_waits(tmp_path: Path):
    workdir = tmp_path / "work"
    workdir.mkdir()
    with (workdir / "run.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        run = start(tmp_path, document(tmp_path))
        deadline = time.monotonic() + PATIENCE_S
        while not (workdir / "journal-1.jsonl").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        run.process.send_signal(signal.SIGTERM)
        assert run.wait() == 75
    assert [event.type for event in run.said()] == ["stopped"]


@pytest.mark.train
def test_a_job_whose_teacher_is_no_checkpoint_says_so_before_its_run_and_runs_nothing_of_it(tmp_path: Path):
    (tmp_path / "models").mkdir()
    with zipfile.ZipFile(tmp_path / "models/broken.pt", "w") as file:
        file.writestr("archive/data.pkl", b"cposix\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(ModelError, match=r"teacher: weights file broken\.pt cannot be loaded"):
        start(tmp_path, document(tmp_path, teacher={"weights": "broken.pt"}))
    assert not list(tmp_path.rglob("owned"))


def test_a_folder_without_inputs_is_refused_in_words(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "retort.run", "spec.json", str(tmp_path), "--foreground"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/inputs.json is missing or malformed\n"


@pytest.mark.train
def test_a_spec_that_is_damaged_is_a_failure_in_the_journal(tmp_path: Path):
    run = start(tmp_path, document(tmp_path))
    run.kill()
    spec = json.loads((run.workdir / "spec.json").read_text())
    (run.workdir / "spec.json").write_text(json.dumps({**spec, "lernrate": 1}))
    done = subprocess.run(
        [sys.executable, "-m", "retort.run", "spec.json", ".", "--foreground"],
        cwd=run.workdir,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 1
    last = run.said()[-1]
    assert isinstance(last, FailedEvent)
    assert last.failure.code == "bad_spec"
