"""Weights that give rare classes their share, by hand and at their edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from retort.losses import Predictions
from support.images import class_weights

Make = Callable[..., Predictions]


def sure(*counts: int) -> Predictions:
    """A teacher that is sure of so many anchors of each class, and of nothing else."""
    anchors, classes = sum(counts), len(counts)
    scores = torch.full((1, anchors, classes), -40.0, dtype=torch.float64)
    owners = [index for index, count in enumerate(counts) for _ in range(count)]
    scores[0, torch.arange(anchors), torch.tensor(owners)] = 40.0
    return Predictions(scores, torch.zeros(1, anchors, 4), torch.zeros(1, anchors, 4, 1))


@pytest.mark.parametrize("class_balance", [0.0, 0.3, 1.0])
def test_they_are_what_plain_loops_compute(class_balance: float, predictions: Make):
    teacher = predictions(1, anchors=30, classes=4)

    expected = class_weights(teacher, class_balance)
    assert teacher.class_weights(class_balance).tolist() == pytest.approx(expected, rel=1e-9)


def test_nine_of_one_class_and_one_of_another_by_hand():
    teacher = sure(9, 1)

    # all balanced: five shares each; half: 9^-1/2 and 1, times 10 / (3 + 1)
    assert teacher.class_weights(1.0).tolist() == pytest.approx([5 / 9, 5])
    assert teacher.class_weights(0.5).tolist() == pytest.approx([2.5 / 3, 2.5])
    assert teacher.class_weights(0.0).tolist() == pytest.approx([1, 1])


def test_a_class_that_is_not_there_is_not_raised():
    assert sure(8, 2, 0).class_weights(1.0).tolist() == pytest.approx([5 / 8, 5 / 2, 1])


def test_a_batch_without_anything_leaves_all_alike():
    blank = Predictions(torch.full((2, 50, 3), -6.0), torch.zeros(2, 50, 4), torch.zeros(2, 50, 4, 1))

    assert blank.class_weights(1.0).tolist() == [1, 1, 1]


def test_thousands_of_doubtful_anchors_are_no_class():
    doubt = math.log(0.01 / 0.99)
    scores = torch.full((1, 5000, 2), doubt)
    scores[0, :4, 0] = 40.0

    assert Predictions(scores, torch.zeros(0), torch.zeros(0)).class_weights(1.0)[1] == 1


def test_the_confidence_of_anchors_follows_their_class():
    confident = sure(9, 1).confidence(1.0)[0].tolist()

    assert confident == pytest.approx([5 / 9] * 9 + [5])
