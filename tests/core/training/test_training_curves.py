"""Curves and matrices by hand: what is right, seen as another class, seen twice, missed, or not there."""

from __future__ import annotations

import numpy as np
import pytest
from retort.report import charts
from retort.training import curves
from retort.training.bootstrap import Matches
from retort.training.curves import Judged, gather
from retort.training.evaluate import FoundImage

NEAR, FAR, ELSEWHERE = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 80.0, 80.0], [90.0, 0.0, 99.0, 9.0]


def image(labels: list[list[float]], boxes: list[list[float]]) -> FoundImage:
    truth = np.array(labels, dtype=np.float32).reshape(-1, 5)
    return ("street.png", truth, np.array(boxes, dtype=np.float32).reshape(-1, 6))


def judged(images: list[FoundImage], right: list[list[bool]]) -> Judged:
    """What validation has found on *images*, with the judgement of each box."""
    stats = {
        "tp": [np.array(one, dtype=bool).reshape(-1, 1).repeat(10, 1) for one in right],
        "conf": [boxes[:, 0] for _, _, boxes in images], "pred_cls": [boxes[:, 1] for _, _, boxes in images],
        "target_cls": [labels[:, 0] for _, labels, _ in images],
    }  # fmt: skip
    return Judged(Matches.of(stats), images, "rectangle")


@pytest.fixture
def network() -> Judged:
    return judged(
        [
            image([[0, *NEAR], [0, *FAR], [1, *ELSEWHERE]], [[0.9, 0, *NEAR], [0.8, 0, *NEAR], [0.7, 1, *FAR]]),
            image([], [[0.6, 2, *FAR]]),
            image([[1, *NEAR]], [[0.5, 1, *NEAR]]),
        ],
        [[True, False, False], [False], [True]],
    )


def test_a_matrix_counts_each_label_once_in_its_row_and_each_box_once_in_its_column(network: Judged) -> None:
    found = gather({"student": network}, ["red", "blue", "grey"], iou=0.5, score_from=0.25)
    assert found.networks["student"].confusion.counts == (
        (1, 1, 0, 0, 0),  # red: one seen, one seen as blue
        (0, 1, 0, 0, 1),  # blue: one seen, one missed
        (0, 0, 0, 0, 0),  # grey has no label
        (0, 0, 0, 0, 0),  # no class is left out
        (1, 0, 1, 0, 0),  # no label: red seen twice, grey where nothing is
    )


def test_a_curve_is_precision_by_recall_and_classes_without_labels_have_none(network: Judged) -> None:
    found = gather({"student": network}, ["red", "blue", "grey"], iou=0.5, score_from=0.25).networks["student"]
    red, blue = found.classes
    assert (red.name, red.number, blue.name, blue.number) == ("red", 2, "blue", 2)
    assert red.precision[:50] == (1.0,) * 50, "the first box of red is right, and finds half of the labels"
    assert set(red.precision[51:]) == {0.0}, "no box finds the other half"
    assert (blue.precision[25], blue.precision[51]) == (0.5, 0.0), "the first box of blue is wrong, the second right"
    assert found.mean[0] == pytest.approx((red.precision[0] + blue.precision[0]) / 2)
    assert found.map50 == pytest.approx((red.ap50 + blue.ap50) / 2, abs=1e-5)


def test_of_many_classes_those_found_worst_are_kept_and_the_others_are_counted_together(
    network: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "MOST_CLASSES", 1)
    found = gather({"student": network, "teacher": network}, ["red", "blue", "grey"], iou=0.5, score_from=0.25)
    assert (found.classes, found.num_classes, found.num_images) == (("blue",), 3, 3)
    assert found.networks["teacher"].confusion.counts == ((1, 0, 1), (1, 1, 0), (0, 2, 0))
    assert [one.name for one in found.networks["student"].classes] == ["blue"]
    both = gather({"student": network}, ["red", "blue", "grey"], iou=0.5, score_from=0.25)
    assert found.networks["student"].mean == both.networks["student"].mean, "the mean is over all classes"


def test_the_report_draws_the_mean_of_each_role(network: Judged) -> None:
    found = gather({"student": network, "teacher": network}, ["red", "blue", "grey"], iou=0.5, score_from=0.25)
    (drawn,) = charts.precision(found)
    assert [trace["name"] for trace in drawn["data"]] == ["student", "teacher"]
    trace = drawn["data"][0]
    assert np.trapezoid(trace["y"], trace["x"]) == pytest.approx(found.networks["student"].map50, abs=1e-4)
    alone = gather({"weak.pt": network}, ["red", "blue", "grey"], iou=0.5, score_from=0.25)
    assert charts.precision(alone) == [], "a report is of roles"


def test_a_network_that_finds_nothing_has_a_curve_of_zeros_and_misses_all() -> None:
    blind = judged([image([[0, *NEAR]], [])], [[]])
    found = gather({"student": blind}, ["red"], iou=0.5, score_from=0.25).networks["student"]
    assert (found.map50, set(found.mean)) == (0.0, {0.0})
    assert found.confusion.counts == ((0, 0, 1), (0, 0, 0), (0, 0, 0))
