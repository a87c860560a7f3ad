"""cross_kd against plain loops, by hand, and with teachers that have distance bins and that have none."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from retort.losses import Predictions
from retort.losses.cross_kd import CrossKD
from support.images import class_weights

Make = Callable[..., Predictions]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(z) for z in logits]
    return [power / sum(powers) for power in powers]


def apart(a: list[float], b: list[float]) -> float:
    """One minus the generalised IoU of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = width * height if width > 0 and height > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return 1 - overlap / union + (hull - union) / hull


def reference(
    crossed: Predictions, teacher: Predictions, beta: float, box_weight: float, class_balance: float = 0.0
) -> float:
    """Both parts, one anchor at a time."""
    classes = boxes = mass = confident = 0.0
    weights = class_weights(teacher, class_balance)
    images, anchors, _, bins = teacher.distances.shape
    for image, anchor in ((i, a) for i in range(images) for a in range(anchors)):
        z_x, z_t = crossed.scores[image, anchor].tolist(), teacher.scores[image, anchor].tolist()
        for w, p_x, p_t in ((w, sigmoid(x), sigmoid(t)) for w, x, t in zip(weights, z_x, z_t, strict=True)):
            classes += w * abs(p_t - p_x) ** beta * -(p_t * math.log(p_x) + (1 - p_t) * math.log(1 - p_x))
        mass += max(sigmoid(z) for z in z_t)
        weight = max(w * sigmoid(z) for w, z in zip(weights, z_t, strict=True))
        confident += weight
        if bins == 1:
            boxes += weight * apart(crossed.boxes[image, anchor].tolist(), teacher.boxes[image, anchor].tolist())
            continue
        for side in range(4):
            d_t, d_x = teacher.distances[image, anchor, side], crossed.distances[image, anchor, side]
            pairs = zip(softmax(d_t.tolist()), softmax(d_x.tolist()), strict=True)
            boxes += weight / 4 * sum(p * math.log(p / q) for p, q in pairs)
    return classes / max(1.0, mass) + box_weight * boxes / confident


@pytest.mark.parametrize("bins", [1, 4, 16])
@pytest.mark.parametrize(("beta", "box_weight"), [(1.0, 4.0), (0.0, 1.0), (2.0, 0.0)])
@pytest.mark.parametrize("class_balance", [0.0, 1.0])
def test_it_is_what_plain_loops_compute(
    bins: int, beta: float, box_weight: float, class_balance: float, predictions: Make
):
    crossed, teacher = predictions(0, bins=bins), predictions(1, bins=bins)

    found = CrossKD(beta=beta, box_weight=box_weight, class_balance=class_balance)(crossed, teacher)

    expected = reference(crossed, teacher, beta, box_weight, class_balance)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def single(logit: float, bin_logit: float) -> Predictions:
    distances = torch.tensor([bin_logit, 0.0], dtype=torch.float64).expand(1, 1, 4, 2)
    return Predictions(torch.full((1, 1, 1), logit, dtype=torch.float64), torch.zeros(1, 1, 4).double(), distances)


def test_one_anchor_by_hand():
    # classes: |0.9 - 0.5| * ln 2, over a mass of 0.9 that counts as one; every side: p = (3/4, 1/4), q = (1/2, 1/2)
    sides = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = CrossKD()(single(0.0, 0.0), single(math.log(9), math.log(3)))

    assert float(found) == pytest.approx(0.4 * math.log(2) + 4 * sides)


def test_boxes_of_a_teacher_without_bins_by_hand():
    box, half = (torch.tensor([[[0.0, 0.0, side, 10.0]]]).double() for side in (10.0, 5.0))
    scores, distances = torch.zeros(1, 1, 1).double(), torch.zeros(1, 1, 4, 1).double()

    # GIoU is 0.5 and the only anchor's weight divides out; classes agree, but |p_t - p_x| = 0
    found = CrossKD(box_weight=2)(Predictions(scores, half, distances), Predictions(scores, box, distances))

    assert float(found) == pytest.approx(2 * 0.5, abs=1e-6)


@pytest.mark.parametrize(("bins", "place"), [(4, 0), (4, 2), (1, 0), (1, 1)])
def test_the_gradient_is_the_derivative_in_classes_distances_and_boxes(bins: int, place: int, predictions: Make):
    crossed, teacher = predictions(0, bins=bins), predictions(1, bins=bins)
    parts = [crossed.scores, crossed.boxes, crossed.distances]

    def of(part: torch.Tensor) -> torch.Tensor:
        return CrossKD()(Predictions(*parts[:place], part, *parts[place + 1 :]), teacher)

    assert torch.autograd.gradcheck(of, (parts[place].clone().requires_grad_(),), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize(("ours", "theirs"), [(8, 8), (8, 5), (5, 8)])
def test_its_adapter_begins_without_loss(ours: int, theirs: int):
    weight = CrossKD().build(ours, theirs).weight[:, :, 0, 0]  # type: ignore[operator,index,union-attr]
    small = weight @ weight.T if theirs <= ours else weight.T @ weight

    torch.testing.assert_close(small, torch.eye(min(ours, theirs)), atol=1e-5, rtol=0)
    if ours == theirs:
        assert torch.equal(weight, torch.eye(ours))
