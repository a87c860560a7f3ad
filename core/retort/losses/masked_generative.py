"""Masked generative distillation (Yang et al., MGD, ECCV 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from retort.losses.base import FeatureLoss, wide

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ALPHA = 2e-5
"""The paper's factor for one-stage detectors. It belongs to a sum; with a mean the loss would be next to nothing."""


class MaskedGenerative(FeatureLoss):
    """``2e-5 / N * sum (G(m * A(s)) - t)^2``: the student must tell the teacher's features also where it sees nothing.

    A aligns widths by a 1x1 convolution without bias, where they differ; m is 0 at random positions, the same for all
    channels; G is 3x3 convolution, ReLU, 3x3 convolution. The sum runs over channels and positions, so a weight of 1
    is the paper's at any input size; a mean would make it depend on nothing that the paper's tuning knows.
    """

    kind: Literal["masked_generative"] = "masked_generative"
    mask_ratio: float = Field(default=0.65, ge=0, lt=1)
    """Share of the positions that are hidden; 0 hides none."""

    def build(self, student_channels: int, teacher_channels: int) -> nn.Module:
        """Return alignment and generator: trainable, and gone from the published student."""
        from torch import nn

        # Without a bias, so that what is hidden before the alignment is hidden after it as well.
        align = nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False)
        return nn.Sequential(
            nn.Identity() if student_channels == teacher_channels else align,
            nn.Conv2d(teacher_channels, teacher_channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_channels, teacher_channels, kernel_size=3, padding=1),
        )

    def prepare(self, student: Tensor, generator: torch.Generator) -> Tensor:
        """Set random positions of (N, C, H, W) to zero, in all channels alike."""
        import torch

        shape = len(student), 1, *student.shape[2:]
        return student * (torch.rand(shape, generator=generator, device=student.device) >= self.mask_ratio)

    def __call__(self, student: Tensor, teacher: Tensor, confidence: Tensor | None) -> Tensor:
        return ALPHA * (wide(student) - wide(teacher)).square().sum() / len(student)
