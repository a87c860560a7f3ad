"""What the difference between the student and each further arm is said to show."""

from __future__ import annotations

from typing import Any

import pytest
from results import result
from retort.constants import MAP
from retort.report.arms import judged
from retort.report.verdict import Noise, verdict
from retort.spec.arms import ABOUT, ArmFigures, ArmName, MeasuredArm
from retort.spec.figures import TrainedFigures
from retort.spec.verdict import Resampled
from stored_results import role

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
    arms = (arm("placebo", 0.45, 0.44), arm("equal_time", 0.45, 0.3))
    images = Resampled(low=0.09, high=0.11, level=0.95, num_images=500, num_resamples=500)
    found = verdict(result(student=0.45, control=0.3).model_copy(update={"arms": arms}), Noise(resampled=images))
    assert found.kind == "gain"
    assert [line for line in found.caveats if "Student less" in line] == [arms[0].sentence]

    level = Resampled(low=-0.01, high=0.01, level=0.95, num_images=500, num_resamples=500)
    found = verdict(result(student=0.45, control=0.45).model_copy(update={"arms": arms}), Noise(resampled=level))
    assert found.kind == "none"
    assert not [line for line in found.caveats if "Student less" in line]
