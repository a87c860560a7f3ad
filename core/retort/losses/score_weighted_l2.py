"""Ultralytics' own feature distillation, as shipped in 8.4.190 (``distill_model=``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from retort.losses.base import FeatureLoss, wide

if TYPE_CHECKING:
    from torch import Tensor, nn


class ScoreWeightedL2(FeatureLoss):
    """Squared error weighted by the teacher's confidence: ``sum (s - t)^2 w / (C sum w + 1e-9)``.

    Its projector has two 1x1 convolutions with a ReLU between them.
    """

    kind: Literal["score_weighted_l2"] = "score_weighted_l2"

    needs_confidence: ClassVar[bool] = True

    def build(self, student_channels: int, teacher_channels: int) -> nn.Module:
        """Return upstream's two-layer projector."""
        from torch import nn

        return nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_channels, teacher_channels, kernel_size=1),
        )

    def __call__(self, student: Tensor, teacher: Tensor, confidence: Tensor | None) -> Tensor:
        assert confidence is not None
        w = wide(confidence)
        error = (wide(student) - wide(teacher)).square() * w  # N C H W
        return error.sum() / (w.sum() * student.shape[1] + 1e-9)
