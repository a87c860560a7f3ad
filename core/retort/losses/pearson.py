"""Feature distillation by Pearson correlation (Cao et al., PKD, NeurIPS 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from retort.losses.base import FeatureLoss, standardise

if TYPE_CHECKING:
    from torch import Tensor, nn

EPS = 1e-6
"""Added to the variance, as in ``standardise``."""


class Pearson(FeatureLoss):
    """Half the mean squared error of features standardised per channel over batch and space: 1 - correlation.

    Blind to the scale and the mean of either network's features, hence in 0..2 without tuning.
    """

    kind: Literal["pearson"] = "pearson"

    def build(self, student_channels: int, teacher_channels: int) -> nn.Module:
        """Return a single 1x1 convolution without bias, to which a correlation is blind."""
        from torch import nn

        return nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False)

    def __call__(self, student: Tensor, teacher: Tensor, confidence: Tensor | None) -> Tensor:
        return (standardise(student, EPS) - standardise(teacher, EPS)).square().mean() / 2

    def through(self, projector: nn.Module, student: Tensor, teacher: Tensor, confidence: Tensor | None) -> Tensor:
        """Return the loss through the projector from covariances, without computing its output."""
        from retort.loss_gradients import decorrelation

        weight = getattr(projector, "weight", None)
        if weight is None or weight.shape[2:] != (1, 1):  # not the projector that *build* makes
            return super().through(projector, student, teacher, confidence)
        return decorrelation(rows(student), rows(teacher), weight.flatten(1), EPS)


def rows(features: Tensor) -> Tensor:
    """Return (N, C, H, W) as a matrix (N H W, C)."""
    return features.movedim(1, -1).flatten(0, -2)
