"""The founding article's channel-wise L2 (FitNets, Romero et al., ICLR 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from retort.constants import Level
from retort.losses.base import FeatureLoss, Levels, wide

if TYPE_CHECKING:
    from torch import Tensor


class ChannelL2(FeatureLoss):
    """Mean squared error between projected student features and teacher features, channel by channel.

    Not scale-free: its size follows the teacher's activations.
    """

    kind: Literal["channel_l2"] = "channel_l2"
    levels: Levels = (Level.BACKBONE, Level.P3)
    """Where to tap both networks."""

    def __call__(self, student: Tensor, teacher: Tensor, confidence: Tensor | None) -> Tensor:
        return (wide(student) - wide(teacher)).square().mean()
