"""Feature distillation by Pearson correlation (Cao et al., PKD, NeurIPS 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from retort.losses.base import FeatureLoss, standardise

if TYPE_CHECKING:
    from torch import Tensor


class Pearson(FeatureLoss):
    """Half the mean squared error of features standardised per channel over batch and space: 1 - correlation.

    Blind to the scale and the mean of either network's features, hence in 0..2 without tuning.
    """

    kind: Literal["pearson"] = "pearson"

    def __call__(self, student: Tensor, teacher: Tensor, confidence: Tensor | None) -> Tensor:
        return (standardise(student) - standardise(teacher)).square().mean() / 2
