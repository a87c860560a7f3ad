"""softmax_kl against plain loops, and its two blindnesses, which are why it is not the default."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from retort.losses import Predictions
from retort.losses.softmax_kl import SoftmaxKL

Make = Callable[..., Predictions]


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def reference(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    """Mean over all rows of logits of T^2 sum p (ln p - ln q)."""
    rows = list(zip(student.flatten(0, -2).tolist(), teacher.flatten(0, -2).tolist(), strict=True))
    total = 0.0
    for z_s, z_t in rows:
        q, p = softmax(z_s, temperature), softmax(z_t, temperature)
        total += temperature**2 * sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
    return total / len(rows)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_it_is_what_plain_loops_compute(temperature: float, predictions: Make):
    student, teacher = predictions(0), predictions(1)

    found = SoftmaxKL(temperature=temperature)(student, teacher)

    assert float(found) == pytest.approx(reference(student.scores, teacher.scores, temperature), rel=1e-9)


def test_two_classes_by_hand(predictions: Make):
    blank = predictions(0, images=1, anchors=1)

    def of(*logits: float) -> Predictions:
        return Predictions(torch.tensor([[logits]], dtype=torch.float64), blank.boxes, blank.distances)

    # p = (3/4, 1/4), q = (1/2, 1/2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(SoftmaxKL(temperature=1)(of(0.0, 0.0), of(math.log(3), 0.0))) == pytest.approx(expected)


def test_it_is_zero_at_equality_and_positive_elsewhere(predictions: Make):
    teacher = predictions(1)

    assert float(SoftmaxKL()(teacher, teacher)) == 0
    assert float(SoftmaxKL()(predictions(0), teacher)) > 0


def test_it_cannot_see_a_shift_common_to_all_classes(predictions: Make):
    teacher = predictions(1)
    everything_found = Predictions(teacher.scores + 9, teacher.boxes, teacher.distances)

    assert float(SoftmaxKL()(everything_found, teacher)) == pytest.approx(0, abs=1e-12)


def test_it_is_exactly_zero_for_a_single_class(predictions: Make):
    assert float(SoftmaxKL()(predictions(0, classes=1), predictions(1, classes=1))) == 0


def test_the_gradient_keeps_its_size_as_the_temperature_rises(predictions: Make):
    def norm(temperature: float) -> float:
        student = predictions(0, scale=0.1)
        student.scores.requires_grad_()
        SoftmaxKL(temperature=temperature)(student, predictions(1, scale=0.1)).backward()
        assert student.scores.grad is not None
        return float(student.scores.grad.norm())

    assert norm(20) == pytest.approx(norm(5), rel=0.05)
