"""What the difference between the student and each further arm is said to show."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from results import result
from retort.constants import MAP
from retort.data.inputs import DatasetInfo, Inputs
from retort.pipeline.answers import DroppedControl, TrainedNetwork
from retort.pipeline.context import Context
from retort.protocol.journal import Journal
from retort.protocol.workdir import Heartbeat
from retort.report.arms import judged
from retort.report.verdict import Noise, verdict
from retort.spec import parse_spec
from retort.spec.arms import ABOUT, ArmFigures, ArmName, MeasuredArm
from retort.spec.figures import TrainedFigures
from retort.spec.verdict import Resampled
from retort.stages import arms
from stored_results import role

SPEC = {
    "name": "x", "data": {"path": "/d"}, "teacher": {"weights": "a.pt"}, "arms": ["equal_time"],
}  # fmt: skip


def trained(epochs: int, duration_s: float | None) -> TrainedNetwork:
    """A network that was to be trained for ten epochs."""
    return TrainedNetwork(
        model="yolov8n", weights="artifacts/a.pt", metrics={}, epochs=epochs, planned_epochs=10, batch=16,
        best_epoch=1, duration_s=duration_s,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("student", "control", "why"),
    [
        (trained(4, 9.0), DroppedControl(dropped="early"), arms.EARLY),
        (trained(10, 9.0), DroppedControl(dropped="it failed"), arms.NO_PACE),
        (trained(10, None), trained(10, 9.0), arms.NO_PACE),
    ],
)
def test_an_arm_that_cannot_show_anything_is_skipped_with_the_reason(
    student: TrainedNetwork, control: object, why: str, tmp_path: Path
):
    with Journal(tmp_path / "journal.jsonl") as journal:
        context = Context(
            parse_spec(SPEC), inputs(tmp_path), tmp_path, journal, threading.Event(),
            {"distill": student, "control": control}, lambda _: None, Heartbeat(tmp_path), "arms", "",
        )  # fmt: skip
        found = arms.run(context)
    assert found.runs == ()
    assert [(one.name, one.status, one.reason) for one in found.extras] == [("arm-equal-time", "skipped", why)]
    assert why in (tmp_path / "journal.jsonl").read_text()


@pytest.mark.parametrize(
    ("student_s", "control_s", "epochs"), [(30.0, 10.0, 30), (10.0, 10.0, 10), (14.0, 10.0, 14), (0.1, 10.0, 1)]
)
def test_the_control_of_equal_time_has_the_epochs_that_the_student_had_time_for(
    student_s: float, control_s: float, epochs: int, tmp_path: Path
):
    with Journal(tmp_path / "journal.jsonl") as journal:
        context = Context(
            parse_spec(SPEC), inputs(tmp_path), tmp_path, journal, threading.Event(),
            {"distill": trained(10, student_s), "control": trained(10, control_s)}, lambda _: None,
            Heartbeat(tmp_path), "arms", "",
        )  # fmt: skip
        assert arms._longer(context) == epochs
        plan = arms._prepared(context, "equal_time").plan
    assert (plan.epochs, plan.training.epochs, plan.training.patience) == (epochs, epochs, 0)


def inputs(folder: Path) -> Inputs:
    """What a run has of its data, where nothing of it is read."""
    dataset = DatasetInfo(root="/d", names=("red",), num_train=1, num_val=1, num_shared=0, digest="d")
    return Inputs(
        attempt=1, device="cpu", data_yaml=folder / "data.yaml", weights={"yolov8n.pt": folder / "yolov8n.pt"},
        dataset=dataset,
    )  # fmt: skip


FLAT = dict.fromkeys(range(11), 0.4)


def arm(name: ArmName, student: float, other: float, **curves: Any) -> ArmFigures:
    """The arm as it is judged, where the images leave a point open to either side."""
    apart = student - other
    resampled = Resampled(low=apart - 0.01, high=apart + 0.01, level=0.95, num_images=500, num_resamples=500)
    measured = MeasuredArm(
        arm=name, figures=TrainedFigures.model_validate(role(other)), path=f"arm-{name}.pt", training_s=8.0,
        resampled=resampled,
    )  # fmt: skip
    own = {"student": {MAP: FLAT}, "job": {f"arm-{name}/{MAP}": curves.get("curve", FLAT)}}
    (found,) = judged(TrainedFigures.model_validate(role(student)), (measured,), own, 10.0)
    return found


@pytest.mark.parametrize("name", ABOUT)
@pytest.mark.parametrize(("other", "kind"), [(0.3, "gain"), (0.44, "none"), (0.6, "loss")])
def test_a_difference_beyond_images_and_seeds_is_told_and_no_other(name: ArmName, other: float, kind: str):
    found = arm(name, 0.45, other)
    assert found.kind == kind
    assert found.interval is not None
    assert (found.interval.low > 0, found.interval.high < 0) == (kind == "gain", kind == "loss")
    assert found.sentence.startswith("It is not shown that") == (kind == "none")
    assert ABOUT[name] in found.sentence
    assert (found.training_s, found.student_training_s) == (8.0, 10.0)


def test_an_arm_that_was_still_learning_gets_a_wider_interval():
    rising = {step: 0.04 * step for step in range(11)}
    settled, learning = arm("placebo", 0.45, 0.4), arm("placebo", 0.45, 0.4, curve=rising)
    assert settled.interval is not None
    assert learning.interval is not None
    assert learning.interval.low < settled.interval.low
    assert (settled.kind, learning.kind) == ("gain", "none")


def test_networks_that_have_hardly_learned_anything_show_nothing():
    found = arm("placebo", 0.019, 0.0)
    assert found.kind == "none"
    assert found.sentence.startswith("Neither has learned enough")


def test_a_gain_that_a_placebo_gives_too_is_a_gain_with_that_caveat():
    others = (arm("placebo", 0.45, 0.44), arm("equal_time", 0.45, 0.3))
    images = Resampled(low=0.09, high=0.11, level=0.95, num_images=500, num_resamples=500)
    found = verdict(result(student=0.45, control=0.3).model_copy(update={"arms": others}), Noise(resampled=images))
    assert found.kind == "gain"
    assert [line for line in found.caveats if "Student less" in line] == [others[0].sentence]

    level = Resampled(low=-0.01, high=0.01, level=0.95, num_images=500, num_resamples=500)
    found = verdict(result(student=0.45, control=0.45).model_copy(update={"arms": others}), Noise(resampled=level))
    assert found.kind == "none"
    assert not [line for line in found.caveats if "Student less" in line]
