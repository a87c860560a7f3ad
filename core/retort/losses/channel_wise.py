"""Channel-wise distillation (Shu et al., CWD, ICCV 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from retort.losses.base import FeatureLoss, divergence, standardise

if TYPE_CHECKING:
    from torch import Tensor


class ChannelWise(FeatureLoss):
    """KL divergence between the spatial softmaxes of each feature channel, averaged over batch and channels.

    ``temperature^2 / (N C) * sum KL(softmax_HW(t / temperature) || softmax_HW(s / temperature))``. Both sides are
    standardised first, as RTMDet and DAMO-YOLO do, because unnormalised channels differ in scale between networks.
    """

    kind: Literal["channel_wise"] = "channel_wise"
    temperature: float = Field(default=1.0, gt=0, le=20)
    """Above 1 the whole map counts, below 1 its peaks."""
    normalize: bool = True
    """Standardise each channel over batch and space before the softmax."""

    def __call__(self, student: Tensor, teacher: Tensor, confidence: Tensor | None) -> Tensor:
        if self.normalize:
            student, teacher = standardise(student), standardise(teacher)
        return divergence(student.flatten(2), teacher.flatten(2), self.temperature).mean()  # over N C
