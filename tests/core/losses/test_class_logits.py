"""class_logits against plain loops, by hand, and in what it must and must not see."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from retort.losses import Predictions
from retort.losses.class_logits import ClassLogits
from support.images import class_weights

Make = Callable[..., Predictions]


def reference(
    student: Predictions, teacher: Predictions, temperature: float, beta: float, class_balance: float = 0.0
) -> float:
    """sum w |p_t - p_s|^beta BCE / max(1, sum of the teacher's best probabilities), one number at a time."""
    total = mass = 0.0
    weights = class_weights(teacher, class_balance)
    for image in range(student.scores.shape[0]):
        for anchor in range(student.scores.shape[1]):
            logits = [float(z) for z in teacher.scores[image, anchor]]
            mass += max(1 / (1 + math.exp(-z)) for z in logits)
            for z_s, z_t, w in zip(student.scores[image, anchor].tolist(), logits, weights, strict=True):
                p_s, p_t = 1 / (1 + math.exp(-z_s / temperature)), 1 / (1 + math.exp(-z_t / temperature))
                total += w * abs(p_t - p_s) ** beta * -(p_t * math.log(p_s) + (1 - p_t) * math.log(1 - p_s))
    return temperature**2 * total / max(1.0, mass)


def single(logit: float) -> Predictions:
    boxes = torch.zeros(1, 1, 4, dtype=torch.float64)
    return Predictions(torch.full((1, 1, 1), logit, dtype=torch.float64), boxes, boxes[..., None])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("class_balance", [0.0, 0.5, 1.0])
def test_it_is_what_plain_loops_compute(temperature: float, beta: float, class_balance: float, predictions: Make):
    student, teacher = predictions(0), predictions(1)

    found = ClassLogits(temperature=temperature, beta=beta, class_balance=class_balance)(student, teacher)

    assert float(found) == pytest.approx(reference(student, teacher, temperature, beta, class_balance), rel=1e-9)


def test_an_undecided_student_under_a_sure_teacher_by_hand():
    sure = math.log(0.9 / 0.1)

    # |0.9 - 0.5| * -(0.9 ln 0.5 + 0.1 ln 0.5) = 0.4 ln 2, over a mass of 0.9 that counts as one
    assert float(ClassLogits()(single(0.0), single(sure))) == pytest.approx(0.4 * math.log(2))


def test_it_is_zero_where_student_and_teacher_agree(predictions: Make):
    teacher = predictions(1)

    assert float(ClassLogits()(teacher, teacher)) == pytest.approx(0, abs=1e-9)


def test_it_sees_the_shift_common_to_all_classes_that_softmax_does_not(predictions: Make):
    teacher = predictions(1, scale=1)
    shifted = Predictions(teacher.scores + 9, teacher.boxes, teacher.distances)

    assert float(ClassLogits()(shifted, teacher)) > 1


def test_it_teaches_with_a_single_class(predictions: Make):
    assert float(ClassLogits()(predictions(0, classes=1), predictions(1, classes=1))) > 0.1


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
def test_the_gradient_is_finite_where_both_agree_exactly(beta: float):
    student = single(0.3)
    student.scores.requires_grad_()

    ClassLogits(beta=beta)(student, single(0.3)).backward()

    assert student.scores.grad is not None
    assert float(student.scores.grad.abs().max()) < 1e-6


def test_more_background_that_agrees_changes_nothing(predictions: Make):
    student, teacher = predictions(0, scale=1), predictions(1, scale=1)
    quiet = torch.full((2, 100, 3), -30.0, dtype=torch.float64)

    def with_background(some: Predictions) -> Predictions:
        return Predictions(torch.cat([some.scores, quiet], 1), some.boxes, some.distances)

    found = ClassLogits()(with_background(student), with_background(teacher))

    assert float(found) == pytest.approx(float(ClassLogits()(student, teacher)), rel=1e-6)
