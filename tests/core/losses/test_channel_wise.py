"""channel_wise against plain loops, with and without its normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from retort.losses.channel_wise import ChannelWise

Make = Callable[..., torch.Tensor]


def standardised(features: torch.Tensor, channel: int) -> list[list[float]]:
    """One channel of every image with zero mean and unit variance over all of them."""
    maps = [image[channel].flatten().tolist() for image in features]
    values = [value for one in maps for value in one]
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values) + 1e-6)
    return [[(value - mean) / deviation for value in one] for one in maps]


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(z) for z in logits]
    return [power / sum(powers) for power in powers]


def reference(student: torch.Tensor, teacher: torch.Tensor, temperature: float, *, normalize: bool) -> float:
    """T^2 / (N C) sum KL of spatial softmaxes, one map at a time."""
    images, channels = student.shape[:2]
    total = 0.0
    for channel in range(channels):
        sides = [
            standardised(x, channel) if normalize else [image[channel].flatten().tolist() for image in x]
            for x in (student, teacher)
        ]
        for image in range(images):
            q, p = (softmax([value / temperature for value in side[image]]) for side in sides)
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / (images * channels)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_it_is_what_plain_loops_compute(temperature: float, normalize: bool, features: Make, confidence: Make):
    student, teacher = features(0), features(1)

    found = ChannelWise(temperature=temperature, normalize=normalize)(student, teacher, confidence())

    assert float(found) == pytest.approx(reference(student, teacher, temperature, normalize=normalize), rel=1e-8)


def test_two_positions_by_hand(confidence: Make):
    def of(logit: float) -> torch.Tensor:
        return torch.tensor([logit, 0.0], dtype=torch.float64).reshape(1, 1, 1, 2)

    # p = (3/4, 1/4), q = (1/2, 1/2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(ChannelWise(normalize=False)(of(0), of(math.log(3)), confidence())) == pytest.approx(expected)


def test_it_is_zero_at_equality(features: Make, confidence: Make):
    assert float(ChannelWise()(features(1), features(1), confidence())) == 0


def test_normalised_it_does_not_see_the_scale_of_a_channel(features: Make, confidence: Make):
    student, teacher = features(0), features(1)
    plain = float(ChannelWise()(student, teacher, confidence()))

    assert float(ChannelWise()(student * 7 + 3, teacher, confidence())) == pytest.approx(plain, rel=1e-4)
