"""What a teacher can be worth is bounded class by class, and the bound is checked against what it was."""

from __future__ import annotations

from typing import Any

import pytest
from retort.report.verdict import Noise, verdict
from retort.report.worth import bound, check
from retort.spec.figures import Roles
from retort.spec.result import JobResult
from retort.spec.verdict import Resampled
from retort.spec.worth import WorthCheck
from stored_results import role, stored

TEACHER = {"red": 0.60, "blue": 0.30}
PLAIN = {"red": 0.50, "blue": 0.40}


def over(low: float, high: float) -> Resampled:
    return Resampled(low=low, high=high, level=0.95, num_images=200, num_resamples=200)


def test_the_bound_is_the_mean_of_the_leads_and_a_class_in_which_the_teacher_is_behind_adds_nothing() -> None:
    found = bound(TEACHER, PLAIN, basis="control")
    assert found is not None
    assert {name: one.most for name, one in found.per_class.items()} == pytest.approx({"red": 0.10, "blue": 0.0})
    assert found.most == pytest.approx(0.05), "the difference of the means is nought, and would be no bound"
    assert "at most +5.0 points" in found.sentence


def test_a_class_that_the_student_does_not_know_can_be_all_the_teachers() -> None:
    found = bound(TEACHER, {"red": 0.5}, basis="start")
    assert found is not None
    assert found.per_class["blue"].most == pytest.approx(0.30)


def test_an_unknown_student_leaves_the_weak_bound_and_says_so() -> None:
    found = bound(TEACHER, None, basis="none", interval=over(0.4, 0.5))
    assert found is not None
    assert found.most == pytest.approx(0.45)
    assert found.per_class["red"].plain is None
    assert "(+40.0 to +50.0 over these images)" in found.sentence
    assert "not known" in found.sentence


def test_a_teacher_of_other_classes_has_no_bound() -> None:
    assert bound({}, PLAIN, basis="start") is None


def roles(student: tuple[float, float], control: tuple[float, float] = (0.50, 0.40)) -> Roles:
    def network(red: float, blue: float, **changes: Any) -> dict[str, Any]:
        mean = (red + blue) / 2
        per_class = {"red": {"ap50": red, "ap": red}, "blue": {"ap50": blue, "ap": blue}}
        return role(mean, per_class=per_class, **changes)

    return Roles.model_validate(
        {"teacher": network(0.60, 0.30, epochs=None), "student": network(*student), "control": network(*control)}
    )


def checked(student: tuple[float, float], excess: Resampled | None = None, **changes: Any) -> WorthCheck:
    given = {"most": over(0.03, 0.07), "excess": excess, "noise": Noise(), "foretold": None, **changes}
    found = check(roles(student), **given)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("student", "excess", "held"),
    [
        ((0.58, 0.40), over(-0.02, 0.0), True),  # +4 of +5 points
        ((0.62, 0.42), over(-0.01, 0.05), None),  # +7: two points more, within the noise of images and seeds
        ((0.70, 0.50), over(0.06, 0.14), False),  # +15: ten points more
        ((0.62, 0.42), None, None),  # more, and nothing is known of its noise
    ],
)
def test_the_bound_holds_is_broken_or_cannot_be_told(
    student: tuple[float, float], excess: Resampled | None, held: bool | None
) -> None:
    found = checked(student, excess)
    assert found.held is held
    assert found.gained == pytest.approx(sum(student) / 2 - 0.45)
    assert found.excess == pytest.approx(found.gained - found.most)
    assert found.per_class["red"].gained == pytest.approx(student[0] - 0.50)


def test_what_was_foretold_is_checked_by_its_own_bound() -> None:
    before = bound(TEACHER, {"red": 0.30, "blue": 0.10}, basis="start")  # +25
    found = checked((0.70, 0.50), over(0.06, 0.14), foretold=before)
    assert found.held is False
    assert found.foretold == before
    assert found.foretold_held is True
    low = bound(TEACHER, {"red": 0.59, "blue": 0.30}, basis="start")  # +0.5
    assert checked((0.70, 0.50), over(0.06, 0.14), foretold=low).foretold_held is False


def test_without_a_control_nothing_can_be_checked() -> None:
    alone = roles((0.5, 0.4)).model_copy(update={"control": None})
    assert check(alone, most=None, excess=None, noise=Noise(), foretold=None) is None


def result(most: float, low: float, high: float) -> tuple[JobResult, Noise]:
    found = checked((0.50, 0.40)).model_copy(update={"most": most})
    told = JobResult.model_validate(stored(0.6, 0.451, 0.45)).model_copy(update={"worth": found})
    return told, Noise(resampled=over(low, high))


def test_the_verdict_says_where_all_that_the_teacher_could_be_worth_would_drown_in_noise() -> None:
    said = verdict(*result(0.004, -0.02, 0.02)).caveats
    assert any("worth at most +0.4 points here" in one and "cannot be shown with these" in one for one in said)
    said = verdict(*result(0.15, -0.02, 0.02)).caveats
    assert not any("worth at most" in one for one in said)
