"""dfl against plain loops, by hand, and on heads that have no distances to compare."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from retort.errors import TeacherMismatch
from retort.losses import Predictions
from retort.losses.dfl import Dfl
from support.images import class_weights

Make = Callable[..., Predictions]


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def reference(student: Predictions, teacher: Predictions, temperature: float, class_balance: float = 0.0) -> float:
    """T^2 sum w mean KL / sum w, one side of one anchor at a time."""
    total = weights = 0.0
    by_class = class_weights(teacher, class_balance)
    for image in range(student.scores.shape[0]):
        for anchor in range(student.scores.shape[1]):
            logits = teacher.scores[image, anchor].tolist()
            weight = max(w / (1 + math.exp(-z)) for w, z in zip(by_class, logits, strict=True))
            sides = []
            for side in range(4):
                p = softmax(teacher.distances[image, anchor, side].tolist(), temperature)
                q = softmax(student.distances[image, anchor, side].tolist(), temperature)
                sides.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
            total += weight * sum(sides) / 4
            weights += weight
    return temperature**2 * total / weights


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
@pytest.mark.parametrize("class_balance", [0.0, 0.5, 1.0])
def test_it_is_what_plain_loops_compute(temperature: float, class_balance: float, predictions: Make):
    student, teacher = predictions(0, bins=16), predictions(1, bins=16)

    found = Dfl(temperature=temperature, class_balance=class_balance)(student, teacher)

    assert float(found) == pytest.approx(reference(student, teacher, temperature, class_balance), rel=1e-9)


def test_two_bins_by_hand(predictions: Make):
    blank = predictions(0, images=1, anchors=1)

    def of(logit: float) -> Predictions:
        distances = torch.tensor([logit, 0.0], dtype=torch.float64).expand(1, 1, 4, 2)
        return Predictions(blank.scores, blank.boxes, distances)

    # every side: p = (3/4, 1/4), q = (1/2, 1/2); one anchor, so its weight divides out
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(Dfl()(of(0.0), of(math.log(3)))) == pytest.approx(expected)


def test_it_is_zero_at_equality(predictions: Make):
    teacher = predictions(1)

    assert float(Dfl()(teacher, teacher)) == 0


def test_anchors_of_which_the_teacher_is_not_sure_hardly_count(predictions: Make):
    student, teacher = predictions(0, images=1, anchors=2), predictions(1, images=1, anchors=2)
    teacher.scores[0, 0], teacher.scores[0, 1] = 5.0, -40.0
    wrong_in_the_background = student.distances.clone()
    wrong_in_the_background[0, 1] *= 10

    found = Dfl()(Predictions(student.scores, student.boxes, wrong_in_the_background), teacher)

    assert float(found) == pytest.approx(float(Dfl()(student, teacher)), rel=1e-9)


@pytest.mark.parametrize(("student_bins", "teacher_bins"), [(16, 1), (1, 16), (1, 1), (16, 8)])
def test_heads_without_equal_bins_are_refused_rather_than_broadcast(
    student_bins: int, teacher_bins: int, predictions: Make
):
    with pytest.raises(TeacherMismatch, match="equal numbers of distance bins") as caught:
        Dfl()(predictions(0, bins=student_bins), predictions(1, bins=teacher_bins))

    assert "box_giou" in str(caught.value.hint)


def test_decoded_boxes_are_compared_where_bins_differ_and_the_spec_says_so(predictions: Make):
    from retort.losses.base import giou

    student, teacher = predictions(0, bins=4), predictions(1, bins=1)
    total = weights = 0.0
    for image in range(2):
        for anchor in range(5):
            weight = max(1 / (1 + math.exp(-z)) for z in teacher.scores[image, anchor].tolist())
            total += weight * (1 - float(giou(student.boxes[image, anchor], teacher.boxes[image, anchor])))
            weights += weight

    assert float(Dfl(otherwise="giou")(student, teacher)) == pytest.approx(total / weights)
    same = predictions(1, bins=4)
    assert float(Dfl(otherwise="giou")(student, same)) == float(Dfl()(student, same))
