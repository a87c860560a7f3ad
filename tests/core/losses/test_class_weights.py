"""Weights that give rare classes their share, by hand and at their edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from retort.losses import Predictions
from retort.losses.base import LARGEST_CLASS_WEIGHT, LEAST_CLASS_WEIGHT
from support.images import class_weights, sure

Make = Callable[..., Predictions]


@pytest.mark.parametrize("class_balance", [0.0, 0.3, 1.0])
def test_they_are_what_plain_loops_compute(class_balance: float, predictions: Make):
    teacher = predictions(1, anchors=30, classes=4)

    expected = class_weights(teacher, class_balance)
    assert teacher.class_weights(class_balance).tolist() == pytest.approx(expected, rel=1e-9)


def test_nine_of_one_class_and_one_of_another_by_hand():
    teacher = sure(9, 1)

    # all balanced: 5/9 and 5 for equal shares, of which 9/10 and 1/2 of the way from 1; half: 9^-1/2 and 1 times 2.5
    assert teacher.class_weights(1.0).tolist() == pytest.approx([1 - 4 / 9 * 0.9, 3])
    assert teacher.class_weights(0.5).tolist() == pytest.approx([1 - 1 / 6 * 0.9, 1.75])
    assert teacher.class_weights(0.0).tolist() == pytest.approx([1, 1])


def test_a_class_that_is_not_there_is_not_raised():
    assert sure(8, 2, 0).class_weights(1.0)[2] == pytest.approx(1)


def test_a_batch_without_anything_leaves_all_alike():
    blank = Predictions(torch.full((2, 50, 3), -6.0), torch.zeros(2, 50, 4), torch.zeros(2, 50, 4, 1))

    assert blank.class_weights(1.0).tolist() == pytest.approx([1, 1, 1], abs=1e-4)


def test_thousands_of_doubtful_anchors_are_no_class():
    doubt = math.log(0.01 / 0.99)
    scores = torch.full((1, 5000, 2), doubt)
    scores[0, :4, 0] = 40.0

    assert float(Predictions(scores, torch.zeros(0), torch.zeros(0)).class_weights(1.0)[1]) < 1.1


def test_the_confidence_of_anchors_follows_their_class():
    confident = sure(9, 1).confidence(1.0)[0].tolist()

    assert confident == pytest.approx([0.6] * 9 + [3])


def test_a_class_weight_does_not_jump_with_the_confidence_of_an_object():
    """It went from 1 to 10 between a mass of 0.8 and 1.6 of a rare class beside a common one."""
    found = []
    for mass in [0.01 * step for step in range(1, 400)]:
        teacher = sure(100, 1)
        found.append(float(replace(teacher, mass=torch.tensor([100.0, mass])).class_weights(1.0)[1]))

    steps = [abs(after - before) for before, after in pairwise(found)]
    assert max(steps) < 0.1
    assert max(found) < LARGEST_CLASS_WEIGHT
    assert max(found) > 5  # a rare class is still raised


def test_the_class_that_matters_most_keeps_a_quarter_of_its_say():
    """One class in a thousand times as many objects as 13 others was lowered to 0.07."""
    assert float(sure(1000, *[1] * 13).class_weights(1.0)[0]) == pytest.approx(LEAST_CLASS_WEIGHT, abs=0.01)
