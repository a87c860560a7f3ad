"""A run that finishes early, and one that goes on elsewhere: real training, in real processes."""

from __future__ import annotations

import json
import shutil
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest
from core.runs import Ended, Running, document, start
from core.training.pictures import NAMES
from retort.data.inputs import Adjustments
from retort.protocol.events import FinishedEvent, LogEvent, MetricEvent, SavedEvent, StageEvent
from sharing import Once

pytestmark = pytest.mark.train


def early_document(home: Path) -> dict[str, Any]:
    """A student that would train for very long."""
    training = {"epochs": 500, "imgsz": 64, "batch": 4, "checkpoint_every": 2, "close_mosaic": 0}
    return {**document(home), "training": training, "exports": []}


def epochs_of(running: Running | Ended, role: str) -> list[int]:
    """Epochs that were trained; 0 is a measurement before the first."""
    told = [event for event in running.said() if isinstance(event, MetricEvent) and event.role == role]
    return [event.step for event in told if event.step]


def last_map(running: Running | Ended) -> float | None:
    told = [event.values for event in running.said() if isinstance(event, MetricEvent)]
    return [values["val/mAP50-95"] for values in told if "val/mAP50-95" in values][-1]


def result_of(running: Running | Ended) -> dict[str, Any]:
    return next(event.result.model_dump(mode="json") for event in running.said() if isinstance(event, FinishedEvent))


def curves_of(workdir: Path) -> dict[str, Any]:
    curves: dict[str, Any] = json.loads((workdir / "artifacts" / "report.json").read_text())["curves"]
    return curves


def assert_same_weights(ours: Path, theirs: Path) -> None:
    """To the last bit: the bytes of every tensor; the rest of the files carries their date."""
    pair = []
    for path in (ours, theirs):
        with zipfile.ZipFile(path) as file:
            pair.append({name: file.read(name) for name in file.namelist() if "/data/" in name})
    assert len(pair[0]) > 100
    assert pair[0] == pair[1]


def live(home: Path) -> list[tuple[str, int, int]]:
    """Ask for an early end in the third epoch, kill the run after it, and run it again."""
    spec = early_document(home)
    killed = start(home, spec, attempt=1)
    killed.until(lambda event: isinstance(event, MetricEvent) and event.role == "student" and event.step == 3)
    (home / "work" / "finish").touch()
    killed.until(lambda event: isinstance(event, StageEvent) and event.stage == "evaluate")
    killed.kill()
    finished = start(home, spec, attempt=2)
    assert finished.wait() == 0, finished.log()
    return [running.ended().told() for running in (killed, finished)]


@pytest.fixture(scope="session")
def early(trained: Once) -> tuple[Ended, Ended]:
    """Asked to finish early in its third epoch, killed after that epoch, and run again."""
    _, (first, second) = trained("early", live)
    return Ended.of(first), Ended.of(second)


def test_a_training_that_is_finished_early_keeps_its_best_and_goes_on_to_the_report(early: tuple[Ended, Ended]):
    first, last = early
    trained = epochs_of(first, "student")
    assert trained == list(range(1, len(trained) + 1))
    assert 3 <= len(trained) < 20
    result = result_of(last)
    assert result["training"] == {"epochs": len(trained), "planned_epochs": 500, "batch": 4}
    assert result["roles"].keys() == {"teacher", "start", "student"}
    assert result["gain"] is result["gap_closed"] is None
    report = json.loads((first.workdir / "artifacts" / "report.json").read_text())
    assert "finished early" in report["verdict"]["sentence"]
    assert any(f"after epoch {len(trained)} of 500" in caveat for caveat in report["verdict"]["caveats"])
    assert report["manifest"]["training"]["epochs"] == len(trained)


def test_the_control_of_a_job_that_finishes_early_is_dropped_and_the_job_says_why(early: tuple[Ended, Ended]):
    first, _ = early
    assert epochs_of(first, "control") == []
    assert not (first.workdir / "artifacts" / "control.pt").exists()
    told = [event.message for event in first.said() if isinstance(event, LogEvent)]
    assert any("control is not trained" in message for message in told)


def test_what_was_saved_is_enough_to_go_on_on_another_machine(tmp_path: Path):
    home = tmp_path / "one"
    spec = {**early_document(home), "control": False}
    spec["training"] = {**spec["training"], "epochs": 5}
    first = start(home, spec, attempt=1)
    first.until(lambda event: isinstance(event, SavedEvent) and event.stage == "distill" and event.epoch >= 2)
    first.kill()
    saved = [event for event in first.said() if isinstance(event, SavedEvent)][-1]
    assert "stages/train_teacher.json" in saved.files

    other = tmp_path / "other"
    assert not [name for name in saved.files if name.startswith("journal")]  # they go on changing
    for name in saved.files:
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(first.workdir / name, other / name)
    second = start(home, spec, attempt=2, workdir=other)
    assert second.wait() == 0, second.log()

    assert epochs_of(second, "teacher") == []
    assert epochs_of(second, "student") == list(range(saved.epoch + 1, 6))
    whole = start(home, spec, attempt=1, workdir=tmp_path / "whole")
    assert whole.wait() == 0, whole.log()
    assert last_map(second) == last_map(whole)
    assert result_of(second)["roles"]["student"]["map"] == result_of(whole)["roles"]["student"]["map"]
    assert_same_weights(other / "artifacts" / "student.pt", tmp_path / "whole" / "artifacts" / "student.pt")
    curves, wanted = curves_of(other), curves_of(tmp_path / "whole")
    assert curves["teacher"]["val/mAP50-95"] == wanted["teacher"]["val/mAP50-95"]
    for name in ("val/mAP50-95", "train/box_loss", "health/teacher_shift"):
        assert curves["student"][name] == wanted["student"][name]
        assert curves["student"][name]["step"] == ([0] if name.startswith("val/") else []) + [1, 2, 3, 4, 5]


def test_a_run_that_is_stopped_says_what_is_newer_than_it_has_said_before_its_last_word(tmp_path: Path):
    spec = early_document(tmp_path)
    spec["training"] = {**spec["training"], "checkpoint_every": 400}
    running = start(tmp_path, spec)
    running.until(lambda event: isinstance(event, MetricEvent) and event.role == "student" and event.step == 2)
    running.process.send_signal(signal.SIGTERM)
    assert running.wait() == 75
    *_, saved, last = running.said()
    assert last.type == "stopped"
    assert isinstance(saved, SavedEvent)
    assert (saved.stage, saved.epoch >= 1) == ("distill", True)
    assert f"work/student/states/{saved.epoch:05d}.state" in saved.files
    assert all((running.workdir / name).is_file() for name in saved.files)


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A job of one epoch, in a smaller batch than its spec's, that takes all classes for one."""
    home = tmp_path_factory.mktemp("merged")
    spec = {**early_document(home), "control": False}
    spec["training"] = {**spec["training"], "epochs": 1, "batch": 4, "single_cls": True}
    running = start(home, spec, adjustments=Adjustments(batch=2))
    assert running.wait() == 0, running.log()
    return running


def test_a_smaller_batch_of_this_attempt_is_used_and_shown(merged: Running):
    assert result_of(merged)["training"]["batch"] == 2


def test_all_classes_as_one_are_named_in_the_result_and_in_what_is_published(merged: Running):
    """single_cls was refused altogether."""
    found = result_of(merged)
    assert (found["dataset"]["names"], found["dataset"]["merged"]) == (["item"], list(NAMES.values()))
    assert set(found["roles"]["student"]["per_class"]) == set(found["roles"]["teacher"]["per_class"]) == {"item"}
    assert "single_cls=True" in found["roles"]["student"]["command"]
    assert list(found["data_quality"]["splits"]["train"]["boxes"]) == list(NAMES.values())
    from retort.training import models

    for name in ("student.pt", "teacher.pt"):
        assert models.load(merged.workdir / "artifacts" / name).names == {0: "item"}
