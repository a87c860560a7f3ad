"""Random predictions and features, small enough for a reference in plain loops."""

from __future__ import annotations

import math

import torch
from retort.losses import Predictions


def make_predictions(
    seed: int = 0,
    *,
    images: int = 2,
    anchors: int = 5,
    classes: int = 3,
    bins: int = 4,
    scale: float = 3.0,
    dtype: torch.dtype = torch.float64,
) -> Predictions:
    """Draw class logits, boxes in a 64 px image and distance logits."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    size = normal(images, anchors, 2)
    corner = 40 * torch.rand(images, anchors, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([corner, corner + 2 + 6 * size.abs()], -1)
    distances = normal(images, anchors, 4, bins)
    return Predictions((scale * normal(images, anchors, classes)).to(dtype), boxes.to(dtype), distances.to(dtype))


def make_features(seed: int = 0, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Draw a feature map, (2, 3, 4, 5) unless told, with channels of differing mean and scale."""
    shape = shape or (2, 3, 4, 5)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    channel = torch.arange(shape[1], dtype=torch.float64)[None, :, None, None]
    return (x * (1 + channel) + channel - 1).to(dtype)


def make_confidence(seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Draw the teacher's confidence at each position, (2, 1, 4, 5)."""
    return torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def class_weights(teacher: Predictions, class_balance: float) -> list[float]:
    """Weigh each class in plain loops: by its mass of cubes, to equal shares where all is balanced, within bounds."""
    count = teacher.scores.shape[-1]
    logits = [teacher.scores[..., index].flatten().tolist() for index in range(count)]
    masses = [max(1e-12, sum((1 / (1 + math.exp(-z))) ** 3 for z in column)) for column in logits]
    shares = sum(mass ** (1 - class_balance) for mass in masses)
    wanted = [sum(masses) / shares * mass**-class_balance for mass in masses]
    bounded = [min(10.0, max(0.25, weight)) for weight in wanted]
    return [1 + (weight - 1) * mass / (mass + 1) for weight, mass in zip(bounded, masses, strict=True)]


def sure(*counts: int) -> Predictions:
    """A teacher that is sure of so many anchors of each class, and of nothing else."""
    anchors, classes = sum(counts), len(counts)
    scores = torch.full((1, anchors, classes), -40.0, dtype=torch.float64)
    owners = [index for index, count in enumerate(counts) for _ in range(count)]
    scores[0, torch.arange(anchors), torch.tensor(owners)] = 40.0
    return Predictions(scores, torch.zeros(1, anchors, 4), torch.zeros(1, anchors, 4, 1))
