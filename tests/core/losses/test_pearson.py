"""pearson against plain loops, and its blindness to scale and mean, which is why it needs no tuning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from retort.losses.pearson import Pearson
from support.images import make_features

Make = Callable[..., torch.Tensor]


def reference(student: torch.Tensor, teacher: torch.Tensor) -> float:
    """Mean over channels of one minus numpy's correlation coefficient."""
    channels = [
        1 - np.corrcoef(student[:, c].flatten().numpy(), teacher[:, c].flatten().numpy())[0, 1]
        for c in range(student.shape[1])
    ]
    return float(np.mean(channels))


def test_it_is_one_minus_the_correlation(features: Make, confidence: Make):
    student, teacher = features(0), features(1)

    assert float(Pearson()(student, teacher, confidence())) == pytest.approx(reference(student, teacher), rel=1e-5)


def test_two_points_by_hand(confidence: Make):
    rising = torch.tensor([0.0, 2.0], dtype=torch.float64).reshape(1, 1, 1, 2)

    assert float(Pearson()(rising, rising * 5, confidence())) == pytest.approx(0, abs=1e-9)
    assert float(Pearson()(-rising, rising, confidence())) == pytest.approx(2, rel=1e-5)


@given(st.floats(0.1, 100), st.floats(-50, 50), st.integers(0, 50))
def test_scale_and_mean_of_either_side_do_not_matter(scale: float, shift: float, seed: int):
    student, teacher, unused = make_features(seed), make_features(seed + 1), make_features(0)
    plain = float(Pearson()(student, teacher, unused))

    assert float(Pearson()(student * scale + shift, teacher, unused)) == pytest.approx(plain, rel=1e-3)
    assert float(Pearson()(student, teacher * scale + shift, unused)) == pytest.approx(plain, rel=1e-3)
    assert 0 <= plain <= 2


def test_a_dead_channel_gives_a_finite_loss_and_gradient(features: Make, confidence: Make):
    student = torch.zeros(2, 3, 4, 5, requires_grad=True)

    loss = Pearson()(student, features(1).float(), confidence())
    loss.backward()

    assert student.grad is not None
    assert float(loss.detach()) == pytest.approx(0.5, abs=1e-3)
    assert bool(student.grad.isfinite().all())


def test_covariances_give_what_projected_features_give():
    loss = Pearson()
    projector = loss.build(5, 7).double()
    student = make_features(0, 2, 5, 6, 4).requires_grad_()
    teacher = make_features(1, 2, 7, 6, 4)

    ways = [loss(projector(student), teacher, None), loss.through(projector, student, teacher, None)]
    inputs = [student, projector.weight]
    gradients = [torch.autograd.grad(value, inputs, retain_graph=True) for value in ways]

    torch.testing.assert_close(ways[1], ways[0])
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(found, expected)


def test_a_teacher_in_bfloat16_is_compared_in_its_own_precision():
    loss = Pearson()
    projector = loss.build(5, 7)
    student = (make_features(0, 4, 5, 16, 16).float() + 3).requires_grad_()  # a mean that must not drown the rest
    teacher = (make_features(1, 4, 7, 16, 16) - 2).bfloat16()

    found, expected = (
        loss.through(projector, student, teacher, None),
        loss(projector(student), teacher.float(), None),
    )
    gradients = [torch.autograd.grad(value, [student, projector.weight]) for value in (found, expected)]

    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0)
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_a_projector_of_another_make_is_applied_as_it_is():
    loss = Pearson()
    projector = torch.nn.Sequential(loss.build(3, 4), torch.nn.ReLU()).double()
    student, teacher = make_features(0, 2, 3, 4, 5), make_features(1, 2, 4, 4, 5)

    torch.testing.assert_close(loss.through(projector, student, teacher, None), loss(projector(student), teacher, None))
