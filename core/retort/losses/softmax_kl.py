"""Classic softmax distillation (Hinton et al., 2015), the founding article's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from retort.losses.base import HeadLoss, Predictions, divergence

if TYPE_CHECKING:
    from torch import Tensor


class SoftmaxKL(HeadLoss):
    """KL divergence between softmaxes over the classes of each anchor, averaged over anchors.

    ``temperature^2 * KL(softmax(z_t / temperature) || softmax(z_s / temperature))``. YOLO's classes are independent
    sigmoids: this loss cannot see a shift common to all classes, and is exactly zero for a single class.
    """

    kind: Literal["softmax_kl"] = "softmax_kl"
    temperature: float = Field(default=4.0, gt=0, le=20)
    """Softens both distributions before they are compared."""

    needs_classes: ClassVar[bool] = True
    needs_dense: ClassVar[bool] = True

    def __call__(self, student: Predictions, teacher: Predictions) -> Tensor:
        return divergence(student.scores, teacher.scores, self.temperature).mean()  # over N A
