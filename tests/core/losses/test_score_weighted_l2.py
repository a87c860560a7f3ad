"""score_weighted_l2 against plain loops, and against the library that it speaks for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from retort.losses.score_weighted_l2 import ScoreWeightedL2
from torch import nn

Make = Callable[..., torch.Tensor]


def reference(student: torch.Tensor, teacher: torch.Tensor, confidence: torch.Tensor) -> float:
    """sum (s - t)^2 w / (C sum w), one position at a time."""
    total = weights = 0.0
    images, channels, height, width = student.shape
    for n in range(images):
        for y in range(height):
            for x in range(width):
                w = float(confidence[n, 0, y, x])
                weights += w
                total += w * sum(float(student[n, c, y, x] - teacher[n, c, y, x]) ** 2 for c in range(channels))
    return total / (channels * weights)


def test_it_is_what_plain_loops_compute(features: Make, confidence: Make):
    student, teacher, weight = features(0), features(1), confidence()

    assert float(ScoreWeightedL2()(student, teacher, weight)) == pytest.approx(reference(student, teacher, weight))


def test_only_sure_positions_count(features: Make, confidence: Make):
    student, weight = features(0), torch.zeros(2, 1, 4, 5, dtype=torch.float64)
    weight[0, 0, 1, 2] = 0.25
    teacher = student + 1
    teacher[0, :, 1, 2] = student[0, :, 1, 2] + 3

    assert float(ScoreWeightedL2()(student, teacher, weight)) == pytest.approx(9)
    assert float(ScoreWeightedL2()(student, teacher, torch.zeros_like(weight))) == 0
    assert float(ScoreWeightedL2()(student, student, confidence())) == 0


def test_its_projector_is_upstreams():
    projector = ScoreWeightedL2().build(8, 16)

    kinds = [type(part) for part in projector.children()]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.Conv2d]
    assert sum(weights.numel() for weights in projector.parameters()) == 8 * 16 + 16 + 16 * 16 + 16
