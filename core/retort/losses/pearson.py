"""Feature distillation by Pearson correlation (Cao et al., PKD, NeurIPS 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from retort.losses.base import FeatureLoss, standardise, wide

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
        """Return the same from covariances: a 1x1 convolution moves them by its weights alone.

        With f the student's features, W the weights and M = N H W: var(W f) = diag(W cov(f, f) W'), and
        cov(W f, t) = diag(W cov(f, t)). Two products of matrices take the place of a dozen passes over the projected
        features.
        """
        import torch

        weight = getattr(projector, "weight", None)
        if weight is None or weight.shape[2:] != (1, 1):  # not the projector that *build* makes
            return super().through(projector, student, teacher, confidence)
        with torch.autocast(student.device.type, enabled=False):
            w = wide(weight.flatten(1))  # C_t C_s
            f, t = centred(student), centred(teacher)  # M C_s, M C_t
            var_s = ((w @ (f.T @ f / len(f))) * w).sum(1)
            cov = (w * (t.T @ f / len(f))).sum(1)
            var_t = t.square().mean(0)
            alike = var_s / (var_s + EPS) + var_t / (var_t + EPS)
            return (alike / 2 - cov / ((var_s + EPS) * (var_t + EPS)).sqrt()).mean()


def centred(features: Tensor) -> Tensor:
    """Return (N, C, H, W) as a matrix (N H W, C) whose columns have zero mean."""
    x = wide(features).movedim(1, -1).flatten(0, -2)
    return x - x.mean(0)
