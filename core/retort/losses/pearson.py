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
        """Return the loss through the projector from covariances, without computing its output.

        With f the student's features, W the weights and M = N H W: var(W f) = diag(W cov(f, f) W'), and
        cov(W f, t) = diag(W cov(f, t)). Two products of matrices take the place of a dozen passes over the projected
        features. They are computed in bfloat16 where the teacher's features have no more digits than that.
        """
        import torch

        weight = getattr(projector, "weight", None)
        if weight is None or weight.shape[2:] != (1, 1):  # not the projector that *build* makes
            return super().through(projector, student, teacher, confidence)
        with torch.autocast(student.device.type, enabled=False):
            w = wide(weight.flatten(1))  # C_t C_s
            f, t = wide(rows(student)), rows(teacher)  # M C_s, M C_t
            f = f - f.mean(0)
            var_t = (wide(t) - wide(t).mean(0)).square().mean(0)
            # One side without its mean is enough for a covariance. float16 lacks the range for sums over M.
            f, t = (f.to(t.dtype), t) if t.dtype == torch.bfloat16 else (f, wide(t))
            var_s = ((w @ wide(f.T @ f)) * w).sum(1) / len(f)
            cov = (w * wide(t.T @ f)).sum(1) / len(f)
            alike = var_s / (var_s + EPS) + var_t / (var_t + EPS)
            return (alike / 2 - cov / ((var_s + EPS) * (var_t + EPS)).sqrt()).mean()


def rows(features: Tensor) -> Tensor:
    """Return (N, C, H, W) as a matrix (N H W, C)."""
    return features.movedim(1, -1).flatten(0, -2)
