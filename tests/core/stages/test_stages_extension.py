"""A whole job that is extended: what it takes over, what it trains, and what it says of that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from core.conftest import Life
from core.runs import Ended, document, start
from retort.data.inputs import Adjustments, Extension
from retort.protocol.events import FailedEvent, FinishedEvent, LogEvent, MetricEvent, SavedEvent, StageEvent
from sharing import Once

EXTENSION = Extension(job="job_1", name="tiny", epochs=(2,))


def last_saved(run: Ended) -> SavedEvent:
    found = [event for event in run.said() if isinstance(event, SavedEvent)][-1]
    assert found.stage == "ended"
    return found


def bring(life: Life, workdir: Path) -> dict[str, Any]:
    """Lay out in *workdir* what a worker would fetch; return the spec with an epoch more."""
    for name in last_saved(life.finished).last:
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(life.workdir / name, workdir / name)
    spec = document(life.home, name="longer")
    return {**spec, "training": {**spec["training"], "epochs": 3}}


def live(home: Path, life: Life) -> tuple[str, int, int]:
    """Add one epoch."""
    spec = bring(life, home / "work")
    run = start(home, spec, adjustments=Adjustments(extension=EXTENSION), keep_last=True)
    run.wait()
    return run.ended().told()


@pytest.fixture(scope="module")
def extended(trained: Once, life: Life) -> Ended:
    return Ended.of(trained("extended", lambda home: live(home, life))[1])


def artifact(run: Ended, name: str) -> Any:
    return json.loads((run.workdir / "artifacts" / name).read_text())


@pytest.mark.train
def test_a_job_that_ends_saves_what_it_can_be_extended_from_and_no_more(life: Life):
    saved = last_saved(life.finished)
    kinds = {name.split("/")[0] for name in saved.last}
    assert kinds == {"stages", "artifacts", "history", "last"}
    assert {"stages/check.json", "stages/train_teacher.json", "artifacts/teacher.pt"} <= set(saved.last)
    assert not [name for name in saved.last if "distill" in name or "student.pt" in name]
    states = [name for name in saved.last if name.endswith(".state")]
    assert states == ["last/control/states/00002.state", "last/student/states/00002.state"]
    assert set(saved.last) < set(saved.files), "until it has succeeded, another attempt needs the rest"
    assert all((life.workdir / name).is_file() for name in saved.files)


@pytest.mark.train
def test_an_extension_trains_what_is_added_of_student_and_control_and_nothing_else(extended: Ended):
    assert extended.code == 0, extended.log()
    stages = [event.stage for event in extended.said() if isinstance(event, StageEvent)]
    assert stages[0] == "distill", "the teacher is the one that taught before"
    steps = [(event.role, event.step) for event in extended.said() if isinstance(event, MetricEvent)]
    assert steps == [("student", 3), ("control", 3)]
    said = [event.message for event in extended.said() if isinstance(event, LogEvent)]
    assert sum(message.startswith("extending: 1 epochs follow the 2") for message in said) == 2
    curves = artifact(extended, "report.json")["curves"]
    assert curves["student"]["val/mAP50-95"]["step"] == [0, 1, 2, 3] == curves["control"]["val/mAP50-95"]["step"]


@pytest.mark.train
def test_its_result_and_verdict_tell_that_it_is_an_extension(extended: Ended):
    last = extended.said()[-1]
    assert isinstance(last, FinishedEvent)
    result = last.result.model_dump(mode="json")
    assert result["training"]["extended"] == {
        "job": "job_1", "epochs": 2, "added": 1, "lr": 0.505, "schedule_epochs": 2,
    }  # fmt: skip
    assert {result["roles"][role]["epochs"] for role in ("student", "control")} == {3}
    (told,) = [one for one in result["verdict"]["caveats"] if "extended" in one]
    assert "Student and control were extended alike, by 1 epoch after the 2 of job job_1" in told
    assert "not the same as 3 epochs from the start" in told


@pytest.mark.train
def test_an_extension_can_be_extended_in_turn(extended: Ended):
    states = [name for name in last_saved(extended).last if name.endswith(".state")]
    assert states == ["last/control/states/00003.state", "last/student/states/00003.state"]


@pytest.mark.train
@pytest.mark.parametrize(
    ("change", "why"), [("teacher", "its stage train_teacher"), ("student", "its last state is gone")]
)
def test_an_extension_without_what_it_goes_on_from_fails_before_it_trains(
    life: Life, tmp_path: Path, change: str, why: str
):
    spec = bring(life, tmp_path / "work")
    if change == "teacher":
        (tmp_path / "work/artifacts/teacher.pt").write_bytes(b"another")
    else:
        shutil.rmtree(tmp_path / "work/last/student")
    run = start(tmp_path, spec, adjustments=Adjustments(extension=EXTENSION))
    run.wait()
    failed = run.ended().said()[-1]
    assert isinstance(failed, FailedEvent)
    assert (failed.failure.code, failed.failure.retryable) == ("cannot_extend", False)
    assert why in failed.failure.message
    assert not [event for event in run.ended().said() if isinstance(event, MetricEvent)]
