"""Feature distillation by Pearson correlation (Cao et al., PKD, NeurIPS 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from retort.losses.base import FeatureLoss

if TYPE_CHECKING:
    from torch import Tensor


class Pearson(FeatureLoss):
    """Half the mean squared error of features standardised per channel over batch and space: 1 - correlation.

    Blind to the scale and the mean of either network's features, hence in 0..2 without tuning.
    """

    kind: Literal["pearson"] = "pearson"

    def __call__(self, student: Tensor, teacher: Tensor, confidence: Tensor) -> Tensor:
        return (standardise(student) - standardise(teacher)).square().mean() / 2


def standardise(features: Tensor, eps: float = 1e-6) -> Tensor:
    """Zero mean and unit variance for each channel over batch and space: (N, C, H, W) to the same, in float32."""
    x = features.float() if features.dtype.itemsize < 4 else features
    centred = x - x.mean((0, 2, 3), keepdim=True)
    return centred / (centred.square().mean((0, 2, 3), keepdim=True) + eps).sqrt()
