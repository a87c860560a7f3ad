"""What may be said of a difference over several seeds."""

from __future__ import annotations

import pytest
from results import result
from retort.report.result import over_seeds, paired
from retort.report.verdict import Noise, verdict


def pairs(*differences: float) -> list[tuple[float, float]]:
    return [(0.4 + gain, 0.4) for gain in differences]


def test_the_interval_of_the_mean_difference_is_students():
    # By hand: mean 2, s = 1, t(0.975; 2) = 4.302653, so 2 +- 4.302653 / sqrt(3); t = 2 sqrt(3), p = 0.07418.
    low, high, p_value = paired([1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(2 - 2.484138, abs=1e-5), pytest.approx(2 + 2.484138, abs=1e-5))
    assert p_value == pytest.approx(0.0741799, abs=1e-6)


def test_differences_that_are_all_equal_leave_no_doubt():
    assert paired([0.5, 0.5]) == (0.5, 0.5, 0.0)
    assert paired([0.0, 0.0]) == (0.0, 0.0, 1.0)


def test_one_pair_has_no_interval():
    assert over_seeds(pairs(0.1)) is None
    assert over_seeds([]) is None


@pytest.mark.parametrize(
    ("differences", "kind"),
    [((0.02, 0.021, 0.019), "gain"), ((-0.02, -0.021, -0.019), "loss"), ((0.05, -0.01, 0.02), "none")],
)
def test_a_gain_is_claimed_only_where_the_interval_leaves_no_room_for_none(differences: tuple[float, ...], kind: str):
    found = over_seeds(pairs(*differences))
    seeds = {"runs": [], "statistics": {"map50": None, "map": found}}
    judged = verdict(result(teacher=0.6, student=0.5, control=0.4, seeds=seeds), Noise())
    assert judged.kind == kind
    assert "3 seeds (95% interval" in judged.sentence
    assert any("over 3 seeds of one data set" in caveat for caveat in judged.caveats)
