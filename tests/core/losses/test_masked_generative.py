"""masked_generative against plain loops, by hand, and in what it hides and what it draws."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from retort.losses.masked_generative import MaskedGenerative

Make = Callable[..., torch.Tensor]


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """3x3 convolution of one image (C, H, W) with zeros around it, one product at a time."""
    _, height, width = x.shape
    found = np.zeros((len(weight), height, width))
    for out, row, column in product(range(len(weight)), range(height), range(width)):
        total = bias[out]
        for channel, down, right in product(range(len(x)), range(-1, 2), range(-1, 2)):
            if 0 <= row + down < height and 0 <= column + right < width:
                total += weight[out, channel, down + 1, right + 1] * x[channel, row + down, column + right]
        found[out, row, column] = total
    return found


def reference(student: Any, teacher: Any, mask: Any, weights: list[Any]) -> float:
    """2e-5 / N sum of squares, as the paper has it: align, then hide, then generate."""
    align, w1, b1, w2, b2 = weights
    total = 0.0
    for image in range(len(student)):
        aligned = np.einsum("oc,chw->ohw", align[:, :, 0, 0], student[image]) * mask[image]
        generated = convolve(np.maximum(convolve(aligned, w1, b1), 0), w2, b2)
        total += sum(float(a - b) ** 2 for a, b in zip(generated.ravel(), teacher[image].ravel(), strict=True))
    return 2e-5 * total / len(student)


def test_hiding_aligning_and_generating_is_what_plain_loops_compute(features: Make):
    loss, student, teacher = MaskedGenerative(), features(0), features(1, 2, 2, 4, 5)
    built = loss.build(3, 2).double()
    mask = (torch.rand(2, 1, 4, 5, generator=drawn(7)) >= 0.65).double()

    found = loss(built(loss.prepare(student, drawn(7))), teacher, None)

    weights = [p.detach().numpy() for p in built.parameters()]
    assert 0 < float(mask.mean()) < 1
    expected = reference(student.numpy(), teacher.numpy(), mask.numpy(), weights)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-9)


def test_a_constant_distance_by_hand(features: Make):
    # (3, 4, 5) values of each image are 3 apart: 2e-5 * 60 * 9, whatever the number of images
    assert float(MaskedGenerative()(features(0) + 3, features(0), None)) == pytest.approx(2e-5 * 60 * 9)


def test_the_gradient_through_mask_and_generator_is_the_derivative(features: Make):
    loss, teacher = MaskedGenerative(mask_ratio=0.3), features(1, 1, 2, 3, 3)
    built = loss.build(3, 2).double()

    def of(student: torch.Tensor) -> torch.Tensor:  # the paper's factor would hide under any tolerance
        return loss(built(loss.prepare(student, drawn())), teacher, None) * 1e5

    assert torch.autograd.gradcheck(of, (features(0, 1, 3, 3, 3).requires_grad_(),))


def test_positions_are_hidden_in_all_channels_alike_and_in_the_share_that_was_asked():
    ones = torch.ones(4, 3, 50, 50)
    for ratio in (0.0, 0.65, 0.9):
        found = MaskedGenerative(mask_ratio=ratio).prepare(ones, drawn())
        assert torch.equal(found[:, :1].expand_as(found), found)
        assert float((found == 0).float().mean()) == pytest.approx(ratio, abs=0.02)


def test_chance_comes_from_the_generator_alone(features: Make):
    loss, student = MaskedGenerative(), features(0, 2, 3, 16, 16)
    before = torch.random.get_rng_state()

    assert torch.equal(loss.prepare(student, drawn(1)), loss.prepare(student, drawn(1)))
    assert not torch.equal(loss.prepare(student, drawn(1)), loss.prepare(student, drawn(2)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_hidden_teaches_the_generator_to_guess_and_not_the_student(features: Make):
    loss = MaskedGenerative()
    student = features(0, 2, 3, 8, 8).float().requires_grad_()
    hidden = loss.prepare(torch.ones(2, 3, 8, 8), drawn()) == 0

    loss(loss.build(3, 3)(loss.prepare(student, drawn())), features(1, 2, 3, 8, 8).float(), None).backward()

    assert student.grad is not None
    assert float(student.grad[hidden].abs().sum()) == 0
    assert float(student.grad[~hidden].abs().sum()) > 0


def test_equal_widths_are_not_aligned_and_the_built_module_can_be_copied():
    narrow, equal = MaskedGenerative().build(3, 8), MaskedGenerative().build(8, 8)

    assert sum(p.numel() for p in narrow.parameters()) == 3 * 8 + 2 * (8 * 8 * 9 + 8)
    assert sum(p.numel() for p in equal.parameters()) == 2 * (8 * 8 * 9 + 8)
    assert deepcopy(narrow).state_dict().keys() == narrow.state_dict().keys()
