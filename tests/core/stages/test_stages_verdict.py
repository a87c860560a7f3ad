"""The verdict says what the figures allow, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from results import result
from retort.report.result import gain, gap_closed
from retort.report.verdict import verdict
from retort.spec.figures import GapClosed
from retort.spec.report import Verdict
from retort.spec.result import JobResult
from stored_results import PARTS, stored


def found(*, teacher: float | None, student: float, control: float | None, **changes: Any) -> JobResult:
    given = result(teacher, student, control, **changes)
    bought = {"gain": gain(given.roles), "gap_closed": gap_closed(given.roles)}
    return given.model_copy(update=bought)


def judge(**figures: Any) -> Verdict:
    return verdict(found(**figures))


def test_a_gain_is_told_with_its_share_of_the_gap_and_without_an_interval():
    said = judge(teacher=0.6, student=0.45, control=0.4)
    assert said.kind == "gain"
    assert said.sentence == (
        "The student gained 5.0 points of mAP50-95 over its undistilled control. "
        "It closes 25\N{NO-BREAK SPACE}% of the gap to the teacher."
    )
    assert said.caveats == ("One seed: there is no interval, and another seed may give another difference.",)


def test_a_loss_is_told_as_plainly_as_a_gain():
    said = judge(teacher=0.6, student=0.35, control=0.4)
    assert said.kind == "loss"
    assert said.sentence.startswith("Distillation did not help: the student ends 5.0 points of mAP50-95 below")


@pytest.mark.parametrize("student", [0.396, 0.4, 0.404])
def test_less_than_half_a_point_is_no_difference(student: float):
    assert judge(teacher=0.6, student=student, control=0.4).kind == "none"


def test_without_a_control_nothing_is_claimed():
    given = found(teacher=0.6, student=0.45, control=None)
    assert given.gain is None
    assert given.gap_closed is None
    said = verdict(given)
    assert said.kind == "unknown"
    assert "No control was trained" in said.sentence


@pytest.mark.parametrize("teacher", [0.35, 0.4, 0.404])
def test_where_the_teacher_is_hardly_better_there_is_no_gap(teacher: float):
    given = found(teacher=teacher, student=0.45, control=0.4)
    assert given.gap_closed == GapClosed(map50=None, map=None)
    said = verdict(given)
    assert "gap" not in said.sentence
    assert any("no gap to close" in caveat for caveat in said.caveats)
    assert any("teacher is weaker than the student" in caveat for caveat in said.caveats)


def test_a_teacher_without_common_classes_has_no_gap_that_is_known():
    said = judge(teacher=None, student=0.45, control=0.4)
    assert said.kind == "gain"
    assert "gap" not in said.sentence
    assert any("no gap to it is known" in caveat for caveat in said.caveats)
    assert not any("weaker" in caveat or "hardly" in caveat for caveat in said.caveats)


def test_validation_on_training_images_is_named_as_what_it_is():
    dataset = {**stored()["dataset"], "num_shared": 128}
    said = judge(teacher=0.6, student=0.45, control=0.4, dataset=dataset)
    assert any("128 of the 500 validation images are also training images" in caveat for caveat in said.caveats)


def test_a_student_that_learned_nothing_is_not_compared_in_earnest():
    assert any("hardly learned" in caveat for caveat in judge(teacher=0.6, student=0.001, control=0.0).caveats)


def test_a_control_that_was_dropped_is_told_with_the_reason():
    why = "the job was finished early, before its twin"
    said = judge(teacher=0.6, student=0.45, control=None, control_dropped=why)
    assert "The job was finished early, before its twin, so what the" in said.sentence


def test_unlabelled_images_that_the_control_never_saw_are_told():
    assert not any("unlabelled" in caveat for caveat in judge(teacher=0.6, student=0.45, control=0.4).caveats)
    told = judge(teacher=0.6, student=0.45, control=0.4, **PARTS["unlabelled images"]).caveats
    assert any("30 unlabelled images, which its control never saw" in caveat for caveat in told)
