"""A run with a pilot: real training, killed after the pilot's first one, and gone on with by another attempt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from core.runs import Ended, start
from core.test_run_early import assert_same_weights, curves_of, epochs_of, result_of
from core.training.pictures import draw
from retort.protocol.events import AnyEvent, LogEvent, MetricEvent, SavedEvent
from sharing import Once

pytestmark = pytest.mark.train


def piloted_document(home: Path, **changes: Any) -> dict[str, Any]:
    """A job that is just long enough for a pilot, of networks that learn nothing in its tenth."""
    data = home / "data"
    if not data.exists():
        draw(data, num_train=104, num_val=4)
    training = {
        "epochs": 20, "imgsz": 64, "batch": 8, "fraction": 0.1, "checkpoint_every": 20, "close_mosaic": 0,
    }  # fmt: skip
    return {
        "name": "piloted",
        "data": {"path": str(data)},
        "teacher": {"train": {"model": "yolo11n", "weights": None, "epochs": 1}},
        "student": {"model": "yolov8n", "weights": None},
        "distillation": {"pilot": True},
        "training": training,
        "arms": ["equal_time"],
        "exports": [],
        **changes,
    }


def saved_plain(event: AnyEvent) -> bool:
    """Return True once the pilot's first training is there to go on from."""
    return isinstance(event, SavedEvent) and "work/pilot/plain.json" in event.files


def live(home: Path) -> list[tuple[str, int, int]]:
    """Kill the run after the pilot's first training, and let a second attempt finish."""
    spec = piloted_document(home)
    killed = start(home, spec, attempt=1)
    killed.until(saved_plain)
    killed.kill()
    finished = start(home, spec, attempt=2)
    return [running.ended().told() for running in (killed, finished)]


@pytest.fixture(scope="session")
def life(trained: Once) -> tuple[Ended, Ended]:
    """Killed after the pilot's first training, and finished by a second attempt."""
    _, (killed, finished) = trained("piloted", live)
    return Ended.of(killed), Ended.of(finished)


def steps_of(running: Ended, name: str) -> list[int]:
    """Epochs that an attempt has told of one of the pilot's trainings."""
    told = [event for event in running.said() if isinstance(event, MetricEvent)]
    return [event.step for event in told if f"pilot-{name}/val/mAP50-95" in event.values]


def test_each_of_the_pilots_trainings_is_made_once_whatever_was_killed(life: tuple[Ended, Ended]):
    killed, finished = life
    assert finished.code == 0, finished.log()
    assert steps_of(killed, "plain") == [1, 2]
    assert steps_of(finished, "plain") == []
    assert steps_of(finished, "recipe") == steps_of(finished, "lowered") == [1, 2]


def test_a_pilot_that_shows_no_gain_stops_the_distillation_and_says_so_everywhere(life: tuple[Ended, Ended]):
    _, finished = life
    found = result_of(finished)
    pilot = found["pilot"]
    assert pilot["decision"] == "stopped"
    assert [one["arm"] for one in pilot["arms"]] == ["plain", "recipe", "lowered"]
    assert pilot["num_train"] + pilot["num_held_apart"] == 104
    assert found["verdict"]["kind"] == "none"
    assert pilot["sentence"] in found["verdict"]["sentence"]
    logs = [event for event in finished.said() if isinstance(event, LogEvent)]
    assert any(event.data.get("pilot") == pilot and event.level == "warning" for event in logs)
    html = (finished.workdir / "artifacts/report.html").read_text()
    assert "The pilot" in html
    assert pilot["sentence"] in html


def test_a_student_that_is_not_taught_is_published_as_its_control_too(life: tuple[Ended, Ended]):
    _, finished = life
    found, artifacts = result_of(finished), finished.workdir / "artifacts"
    assert found["roles"]["student"]["map"] == found["roles"]["control"]["map"]
    assert found["gain"] == {"map50": 0.0, "map": 0.0}
    assert (artifacts / "student.pt").read_bytes() == (artifacts / "control.pt").read_bytes()
    assert epochs_of(finished, "student") == list(range(1, 21))
    assert epochs_of(finished, "control") == []
    assert not any(name.startswith(("health/", "train/kd")) for name in curves_of(finished.workdir)["student"])
    (arm,) = [one for one in found["extras"] if one["name"] == "arm-equal-time"]
    assert (arm["status"], "pilot" in arm["reason"]) == ("skipped", True)
    assert json.loads((artifacts / "report.json").read_text())["result"]["pilot"] == found["pilot"]


def test_a_student_that_was_stopped_is_the_control_of_a_job_without_a_pilot_to_the_bit(
    life: tuple[Ended, Ended], tmp_path: Path
):
    _, finished = life
    spec = piloted_document(tmp_path, distillation={}, arms=[])
    spec["data"] = {"path": str(finished.workdir.parent / "data")}
    without = start(tmp_path, spec)
    assert without.wait() == 0, without.log()
    artifacts = finished.workdir / "artifacts"
    assert_same_weights(artifacts / "student.pt", tmp_path / "work/artifacts/control.pt")
