"""box_giou against plain loops, by hand, and on boxes that are no boxes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from retort.losses import Predictions
from retort.losses.base import giou
from retort.losses.box_giou import BoxGIoU
from support.images import class_weights

Make = Callable[..., Predictions]
Box = tuple[float, float, float, float]


def reference_giou(a: Box, b: Box) -> float:
    """Intersection over union less the share of the hull that neither covers."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = width * height if width > 0 and height > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return overlap / union - (hull - union) / hull


def reference(student: Predictions, teacher: Predictions, class_balance: float = 0.0) -> float:
    """sum of w (1 - GIoU) over the teacher's mass, one anchor at a time."""
    total = mass = 0.0
    weights = class_weights(teacher, class_balance)
    for image in range(student.scores.shape[0]):
        for anchor in range(student.scores.shape[1]):
            pairs = zip(student.scores[image, anchor].tolist(), teacher.scores[image, anchor].tolist(), strict=True)
            p = [(1 / (1 + math.exp(-z_s)), 1 / (1 + math.exp(-z_t))) for z_s, z_t in pairs]
            mass += max(p_t for _, p_t in p)
            boxes = tuple(student.boxes[image, anchor].tolist()), tuple(teacher.boxes[image, anchor].tolist())
            gaps = [w * abs(p_t - p_s) for w, (p_s, p_t) in zip(weights, p, strict=True)]
            total += max(gaps) * (1 - reference_giou(*boxes))
    return total / max(1.0, mass)


def pair(a: Box, b: Box) -> float:
    return float(giou(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)))


@pytest.mark.parametrize("class_balance", [0.0, 0.5, 1.0])
def test_it_is_what_plain_loops_compute(class_balance: float, predictions: Make):
    student, teacher = predictions(0, anchors=40), predictions(1, anchors=40)

    found = BoxGIoU(class_balance=class_balance)(student, teacher)

    assert float(found) == pytest.approx(reference(student, teacher, class_balance), rel=1e-7)


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (0, 0, 5, 10), 0.5),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 1, 1), (2, 0, 3, 1), -1 / 3),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7 - 2 / 9),
    ],
    ids=str,
)
def test_giou_by_hand(a: Box, b: Box, value: float):
    assert pair(a, b) == pytest.approx(value, abs=1e-6)


def test_one_anchor_by_hand():
    scores, box = torch.zeros(1, 1, 1), torch.tensor([[[0.0, 0.0, 10.0, 10.0]]])
    half = torch.tensor([[[0.0, 0.0, 5.0, 10.0]]])
    student, teacher = Predictions(scores, half, half[..., None]), Predictions(scores + 30, box, box[..., None])

    # w = |1 - 0.5|, GIoU = 0.5, over a mass of 1
    assert float(BoxGIoU()(student, teacher)) == pytest.approx(0.25, abs=1e-6)


lengths = st.floats(0.5, 600)
boxes = st.tuples(st.floats(0, 640), st.floats(0, 640), lengths, lengths).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@given(boxes, boxes)
def test_giou_is_symmetric_bounded_and_what_the_definition_says(a: Box, b: Box):
    value = pair(a, b)

    assert value == pytest.approx(reference_giou(a, b), abs=1e-6)
    assert value == pytest.approx(pair(b, a), abs=1e-12)
    assert -1 < value <= 1


@given(boxes, boxes, st.floats(-100, 100), st.floats(0.5, 8))
def test_giou_does_not_depend_on_where_the_boxes_lie_or_on_the_unit(a: Box, b: Box, shift: float, scale: float):
    def moved(box: Box) -> Box:
        return tuple(scale * side + shift for side in box)  # type: ignore[return-value]

    assert pair(moved(a), moved(b)) == pytest.approx(pair(a, b), abs=1e-5)


@pytest.mark.parametrize("bad", [(5, 5, 5, 5), (9, 9, 3, 3), (-1e4, -1e4, 1e4, 1e4)], ids=str)
def test_boxes_that_are_no_boxes_give_a_finite_loss_and_gradient(bad: Box):
    student = torch.tensor([bad], dtype=torch.float32, requires_grad=True)

    value = 1 - giou(student, torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
    value.sum().backward()

    assert student.grad is not None
    assert 0 <= float(value.detach()) <= 2
    assert bool(student.grad.isfinite().all())


def test_no_anchor_counts_where_the_classes_agree(predictions: Make):
    teacher, other = predictions(1), predictions(0)

    assert float(BoxGIoU()(Predictions(teacher.scores, other.boxes, other.distances), teacher)) == 0


def test_the_weight_teaches_no_class(predictions: Make):
    student = predictions(0)
    student.scores.requires_grad_()
    student.boxes.requires_grad_()

    BoxGIoU()(student, predictions(1)).backward()

    assert student.scores.grad is None
    assert student.boxes.grad is not None
    assert float(student.boxes.grad.abs().sum()) > 0


def test_heads_with_and_without_dfl_may_teach_each_other(predictions: Make):
    assert float(BoxGIoU()(predictions(0, bins=16), predictions(1, bins=1))) > 0
