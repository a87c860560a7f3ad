"""What a distillation loss is, and what it receives.

Losses are values: they validate, serialise and appear in the JSON Schema. They receive tensors and import torch for
type checking only, so that the API validates a whole spec without it. One file declares one loss; writing the file
registers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from retort.names import HEAD_LEVELS, Level
from retort.variants import Frozen

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Predictions:
    """Raw outputs of one Detect branch over A anchors, the class axis reduced to the K classes both sides name."""

    scores: Tensor
    """Class logits, (N, A, K)."""
    boxes: Tensor
    """Decoded boxes x1, y1, x2, y2 in input pixels, (N, A, 4)."""
    distances: Tensor
    """Logits over the R distance bins of each side, (N, A, 4, R); R = 1 is a head without DFL."""


class Loss(Frozen):
    """One term of the distillation objective."""

    weight: float = Field(default=1.0, ge=0, le=1000)
    """Factor of the term; with ``balance: task_loss`` it is the term's share of the task loss."""

    needs_classes: ClassVar[bool] = False
    """Whether teacher and student must have class names in common."""


class HeadLoss(Loss):
    """Response-based: compares what the two Detect heads predict."""

    def __call__(self, student: Predictions, teacher: Predictions) -> Tensor:
        """Return the scalar loss; only *student* carries gradient."""
        raise AssertionError  # each kind says its own


class FeatureLoss(Loss):
    """Feature-based: compares feature maps at the named levels."""

    levels: tuple[Level, ...] = Field(default=HEAD_LEVELS, min_length=1)
    """Where to tap both networks."""

    def build(self, student_channels: int, teacher_channels: int) -> nn.Module:
        """Return the trainable projector from student to teacher channels: a single 1x1 convolution."""
        from torch import nn

        return nn.Conv2d(student_channels, teacher_channels, kernel_size=1)

    def __call__(self, student: Tensor, teacher: Tensor, confidence: Tensor) -> Tensor:
        """Return the scalar loss of one level.

        student: projected student features, (N, C, H, W)
        teacher: teacher features, (N, C, H, W)
        confidence: the teacher's highest class probability at each position, (N, 1, H, W)
        """
        raise AssertionError  # each kind says its own
